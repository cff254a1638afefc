// Talks with an agent while it runs: converse.js AGENT INPUT [FURTHER_INPUT]
// Asks on the terminal for each call that needs an approval (y: it runs; anything else: it does not), and says FURTHER_INPUT with the first
// answer. The server is SLUICE_ADDR or 127.0.0.1:50051. Exit status: 0 done, 1 error, 130 cancelled by Ctrl-C.
'use strict';
const path = require('node:path');
const readline = require('node:readline');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const options = { keepCase: true, longs: Number, enums: String, oneofs: true, includeDirs: [path.join(__dirname, '..', '..', '..', 'proto')] };
const { AgentRuntime } = grpc.loadPackageDefinition(loader.loadSync('sluice/v1/runtime.proto', options)).sluice.v1;

const [agent, input, further] = process.argv.slice(2);
const client = new AgentRuntime(process.env.SLUICE_ADDR || '127.0.0.1:50051', grpc.credentials.createInsecure());
const call = client.converse(); // without a deadline: it waits for people
const person = readline.createInterface({ input: process.stdin });
const lines = person[Symbol.asyncIterator]();
let questions = Promise.resolve(); // one at a time: several calls may ask at once
let unsaid = further;

async function ask({ approval_id, arguments_digest, tool_name, arguments_json }) {
  process.stderr.write(`${tool_name} ${arguments_json}: run it? `);
  const { value: answer = '' } = await lines.next();
  const decision = answer.trim() === 'y' ? 'APPROVAL_DECISION_APPROVED' : 'APPROVAL_DECISION_DENIED';
  if (unsaid) call.write({ user_input: { text: unsaid } }); // before the answer, after which the model goes on
  unsaid = undefined;
  call.write({ approval: { approval_id, arguments_digest, decision } }); // for exactly the arguments that were shown
}

const complete = ({ tool_name, success, error }) => console.error(`[${tool_name}: ${success ? 'ran' : error}]`);

call.on('data', (event) => {
  if (event.event === 'text_delta') process.stdout.write(event.text_delta.delta);
  else if (event.event === 'tool_call_complete') complete(event.tool_call_complete);
  else if (event.event === 'approval_requested') questions = questions.then(() => ask(event.approval_requested));
  else if (event.event === 'done') console.error(`\n${event.done.output_tokens} tokens`);
});
call.on('error', (error) => {
  console.error(`\n${grpc.status[error.code]}: ${error.details}`);
  process.exitCode = error.code === grpc.status.CANCELLED ? 130 : 1;
});
call.on('status', () => { // also after an error
  call.end();
  person.close();
  client.close();
});
process.on('SIGINT', () => call.write({ cancel: { reason: 'Ctrl-C' } })); // a reset would do, too
call.write({ start: { agent, input } });
