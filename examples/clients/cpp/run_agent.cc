// Runs an agent and prints what it says: run-agent AGENT INPUT [SECONDS]
// The server is SLUICE_ADDR or 127.0.0.1:50051; SLUICE_CA, a PEM file, turns TLS on.
// Exit status: 0 done, 1 error, 130 cancelled by Ctrl-C.
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <thread>

#include <grpcpp/grpcpp.h>

#include "error_details.pb.h"
#include "sluice/v1/runtime.grpc.pb.h"

using sluice::v1::AgentRuntime;
using sluice::v1::ExecuteRequest;
using sluice::v1::StreamEvent;

namespace {

std::string ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::shared_ptr<grpc::Channel> OpenChannel() {
  const char* address = std::getenv("SLUICE_ADDR");
  const char* authorities = std::getenv("SLUICE_CA");
  grpc::ChannelArguments arguments;
  arguments.SetServiceConfigJSON(ReadFile("examples/service-config.json"));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 30000);  // the server allows a PING every 10 s
  arguments.SetMaxReceiveMessageSize(5 << 20);          // an event has at most 4 MiB
  auto credentials = grpc::InsecureChannelCredentials();
  if (authorities != nullptr) {
    grpc::SslCredentialsOptions options;
    options.pem_root_certs = ReadFile(authorities);
    credentials = grpc::SslCredentials(options);
  }
  return grpc::CreateCustomChannel(address != nullptr ? address : "127.0.0.1:50051", credentials, arguments);
}

// Prints the text of a run; has_run becomes true with its first event.
grpc::Status Run(grpc::ClientContext& context, const ExecuteRequest& request, bool& has_run) {
  auto stub = AgentRuntime::NewStub(OpenChannel());
  auto reader = stub->ExecuteStreaming(&context, request);
  StreamEvent event;
  while (reader->Read(&event)) {
    has_run = true;
    if (event.has_text_delta()) {
      std::cout << event.text_delta().delta() << std::flush;
    } else if (event.has_tool_call_start()) {
      std::cerr << "[" << event.tool_call_start().tool_name() << "]\n";
    } else if (event.has_done()) {
      std::cerr << "\n" << event.done().output_tokens() << " tokens\n";
    }
  }
  return reader->Finish();
}

// ErrorInfo of an error: the reason, and whether a run had started. The client's own errors have none.
std::string ReasonOf(const grpc::Status& error, bool& has_run) {
  details::Status status;
  details::ErrorInfo info;
  status.ParseFromString(error.error_details());
  for (const auto& detail : status.details()) {
    if (detail.type_url() == "type.googleapis.com/google.rpc.ErrorInfo" && info.ParseFromString(detail.value())) {
      has_run = info.metadata().at("run_started") == "true";
      return info.reason();
    }
  }
  return "-";
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: run-agent AGENT INPUT [SECONDS]\n";
    return 2;
  }
  grpc::ClientContext context;
  const std::chrono::duration<double> seconds(argc > 3 ? std::atof(argv[3]) : 60);
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::duration_cast<std::chrono::milliseconds>(seconds));
  // A thread waits for Ctrl-C: TryCancel resets the stream, and so cancels the run. No handler could call it.
  // It is joined below: the process must not be gone before the reset is written.
  sigset_t interrupt;
  sigemptyset(&interrupt);
  sigaddset(&interrupt, SIGINT);
  pthread_sigmask(SIG_BLOCK, &interrupt, nullptr);
  std::thread canceller([interrupt, &context] {
    int signal = 0;
    sigwait(&interrupt, &signal);
    context.TryCancel();
  });

  ExecuteRequest request;
  request.set_agent(argv[1]);
  request.set_input(argv[2]);
  bool has_run = false;
  const grpc::Status status = Run(context, request, has_run);
  pthread_kill(canceller.native_handle(), SIGINT);  // without a Ctrl-C it still waits
  canceller.join();
  if (status.ok()) {
    return 0;
  }
  const std::string reason = ReasonOf(status, has_run);
  std::cerr << "\nstatus " << status.error_code() << " " << reason << " ("
            << (has_run ? "the run had started" : "no run was started") << "): " << status.error_message() << "\n";
  return status.error_code() == grpc::StatusCode::CANCELLED ? 130 : 1;
}
