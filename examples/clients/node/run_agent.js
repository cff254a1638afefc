// Runs an agent and prints what it says: run_agent.js AGENT INPUT [SECONDS]
// The server is SLUICE_ADDR or 127.0.0.1:50051; SLUICE_CA, a PEM file, turns TLS on. Exit status: 0 done, 1 error, 130 cancelled by Ctrl-C.
'use strict';
const fs = require('node:fs');
const path = require('node:path');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const top = path.join(__dirname, '..', '..', '..');
const options = {
  keepCase: true, longs: Number, enums: String, oneofs: true,
  includeDirs: [path.join(top, 'proto'), path.join(top, 'examples', 'proto')],
};
const { AgentRuntime } = grpc.loadPackageDefinition(loader.loadSync('sluice/v1/runtime.proto', options)).sluice.v1;
const details = loader.loadSync('error_details.proto', options);

// ErrorInfo of an error: the reason, and whether a run had started. The client's own errors have none.
function reasonOf(error, hasRun) {
  const [bytes] = error.metadata.get('grpc-status-details-bin');
  const status = bytes ? details['details.Status'].deserialize(bytes) : { details: [] };
  const any = status.details.find((detail) => detail.type_url.endsWith('/google.rpc.ErrorInfo'));
  if (!any) return { reason: '-', hasRun };
  const info = details['details.ErrorInfo'].deserialize(any.value);
  return { reason: info.reason, hasRun: info.metadata.run_started === 'true' };
}

const [agent, input, seconds = '60'] = process.argv.slice(2);
const authorities = process.env.SLUICE_CA && fs.readFileSync(process.env.SLUICE_CA);
const credentials = authorities ? grpc.credentials.createSsl(authorities) : grpc.credentials.createInsecure();
const client = new AgentRuntime(process.env.SLUICE_ADDR || '127.0.0.1:50051', credentials, {
  'grpc.service_config': fs.readFileSync(path.join(top, 'examples', 'service-config.json'), 'utf8'),
  'grpc.keepalive_time_ms': 30000, // the server allows a PING every 10 s
  'grpc.max_receive_message_length': 5 << 20, // an event has at most 4 MiB
});
let anyEvent = false;
const call = client.executeStreaming({ agent, input }, { deadline: Date.now() + 1000 * Number(seconds) });
process.on('SIGINT', () => call.cancel());

call.on('data', (event) => {
  anyEvent = true;
  if (event.event === 'text_delta') process.stdout.write(event.text_delta.delta);
  else if (event.event === 'tool_call_start') console.error(`[${event.tool_call_start.tool_name}]`);
  else if (event.event === 'done') console.error(`\n${event.done.output_tokens} tokens`);
});
call.on('error', (error) => {
  const { reason, hasRun } = reasonOf(error, anyEvent);
  const state = hasRun ? 'the run had started' : 'no run was started';
  console.error(`\n${grpc.status[error.code]} ${reason} (${state}): ${error.details}`);
  process.exitCode = error.code === grpc.status.CANCELLED ? 130 : 1;
});
call.on('status', () => client.close());
