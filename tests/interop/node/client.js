// Calls a running sluiced with @grpc/grpc-js: streams, cancel, deadline, errors, reflection, TLS.
'use strict';
const assert = require('node:assert');
const fs = require('node:fs');
const { spawnSync } = require('node:child_process');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const env = process.env;
const options = { longs: Number, enums: String, keepCase: true, oneofs: true, defaults: false };
const load = (file) =>
  grpc.loadPackageDefinition(
    loader.loadSync(file, { ...options, includeDirs: [`${env.SLUICE_ROOT}/proto`, '/usr/share/grpc-proto'] }));
const { AgentRuntime } = load('sluice/v1/runtime.proto').sluice.v1;
const { ServerReflection } = load('grpc/reflection/v1/reflection.proto').grpc.reflection.v1;
const { Health } = load('grpc/health/v1/health.proto').grpc.health.v1;

const plain = grpc.credentials.createInsecure();
const client = new AgentRuntime(env.SLUICE_ADDR, plain);

// What came of a run's events is in order, and whole if its last event came.
const checkOrder = (events) => {
  const first = events.find((e) => e.sequence);
  if (!first) return;
  const { responseSerialize: serialize } = AgentRuntime.service.ExecuteStreaming;
  const framed = Buffer.concat(events.map((e) => {
    const bytes = serialize(e);
    const prefix = Buffer.alloc(5);
    prefix.writeUInt32BE(bytes.length, 1);
    return Buffer.concat([prefix, bytes]);
  }));
  const isWhole = ['done', 'error'].includes(events.at(-1).event);
  const words = ['check-events', '--after', `${first.sequence - 1}`, ...(isWhole ? [] : ['--may-be-cut'])];
  const checked = spawnSync(`${env.SLUICE_BIN}/sluice`, words, { input: framed });
  assert.strictEqual(checked.status, 0, checked.stderr.toString());
};

// The events of a stream, and how it ended.
const collect = (call, onEvent = () => {}) =>
  new Promise((resolve, reject) => {
    const events = [];
    call.on('data', (event) => { events.push(event); onEvent(event, call); });
    call.on('error', () => {});
    call.on('status', (status) => {
      try {
        checkOrder(events);
        resolve({ events, status });
      } catch (error) {
        reject(error);
      }
    });
  });

const unary = (c, method, request) =>
  new Promise((resolve, reject) => c[method](request, (error, reply) => (error ? reject(error) : resolve(reply))));

const waitFor = async (what, condition) => {
  const end = Date.now() + 10000;
  while (Date.now() < end) {
    const value = condition();
    if (value) return value;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`not within 10 s: ${what}`);
};
const logLine = (...words) =>
  fs.readFileSync(env.SLUICE_LOG, 'utf8').split('\n').find((line) => words.every((word) => line.includes(word)));

const cases = {
  async echo_streams_its_input_back() {
    const { events, status } = await collect(client.executeStreaming({ agent: 'echo', input: 'one two' }));
    assert.strictEqual(status.code, grpc.status.OK);
    assert.strictEqual(events.map((e) => e.text_delta?.delta ?? '').join(''), 'one two');
    assert.strictEqual(events[0].event, 'run_started');
    assert.strictEqual(events.at(-1).event, 'done');
  },
  async the_order_of_demo_is_proven() {
    const { events } = await collect(client.executeStreaming({ agent: 'demo', input: 'x' }));
    assert(events.some((e) => e.thinking) && events.some((e) => e.tool_call_complete?.success));
  },
  async cancel_ends_the_run() {
    let runId;
    const { status } = await collect(client.executeStreaming({ agent: 'load', input: 'hang=true' }), (event, call) => {
      runId = event.run_started?.run_id ?? runId;
      if (event.text_delta) call.cancel();
    });
    assert.strictEqual(status.code, grpc.status.CANCELLED);
    await waitFor('the end in the log', () => logLine(runId, 'CLIENT_RESET'));
  },
  async a_deadline_ends_the_call_and_the_run() {
    let runId;
    const call = client.executeStreaming({ agent: 'load', input: 'hang=true' }, { deadline: Date.now() + 500 });
    const { status } = await collect(call, (event) => { runId = event.run_started?.run_id ?? runId; });
    assert.strictEqual(status.code, grpc.status.DEADLINE_EXCEEDED);
    // The client resets the stream at its own deadline; which of the two the server sees first is a race.
    await waitFor('the end in the log', () => logLine(runId, 'code=DEADLINE_EXCEEDED') || logLine(runId, 'CLIENT_RESET'));
  },
  async a_run_is_started_followed_and_cancelled_apart() {
    const { run_id: runId } = await unary(client, 'startRun', { agent: 'load', input: 'hang=true' });
    const followed = collect(client.attach({ run_id: runId, after_sequence: 0 }));
    const { state } = await unary(client, 'cancelRun', { run_id: runId, wait: true });
    assert.strictEqual(state, 'RUN_STATE_CANCELLED');
    const { events, status } = await followed;
    assert.strictEqual(status.code, grpc.status.CANCELLED);
    assert.deepStrictEqual(events.map((e) => e.sequence), events.map((e, i) => i + 1));
    assert.strictEqual(events.at(-1).error.cancel_reason, 'CANCEL_REASON_CANCEL_RPC');
    const { run } = await unary(client, 'getRun', { run_id: runId });
    assert.strictEqual(run.last_sequence, events.length);
    const { runs } = await unary(client, 'listRuns', { agent: 'load' });
    assert(runs.some((r) => r.run_id === runId));
    const late = await collect(client.attach({ run_id: runId, after_sequence: 1000 }));
    assert.strictEqual(late.status.code, grpc.status.OUT_OF_RANGE);
  },
  async an_unknown_agent_is_not_found() {
    const { status } = await collect(client.executeStreaming({ agent: 'nobody' }));
    assert.strictEqual(status.code, grpc.status.NOT_FOUND);
    assert(status.metadata.get('grpc-status-details-bin')[0].includes('AGENT_NOT_FOUND'));
  },
  async execute_and_list_answer() {
    const reply = await unary(client, 'execute', { agent: 'echo', input: 'a b' });
    assert.strictEqual(reply.result.content, 'a b');
    const { agents } = await unary(client, 'listAgents', {});
    assert(agents.some((a) => a.name === 'demo'));
  },
  async reflection_lists_services() {
    const reflection = new ServerReflection(env.SLUICE_ADDR, plain);
    const call = reflection.serverReflectionInfo();
    const done = collect(call);
    call.write({ list_services: '' });
    call.write({ file_containing_symbol: 'sluice.v1.StreamEvent' });
    call.end();
    const { events, status } = await done;
    assert.strictEqual(status.code, grpc.status.OK);
    assert(events[0].list_services_response.service.some((s) => s.name === 'sluice.v1.AgentRuntime'));
    assert(events[1].file_descriptor_response.file_descriptor_proto.length > 0);
    reflection.close();
  },
  async health_is_serving() {
    const health = new Health(env.SLUICE_ADDR, plain);
    assert.strictEqual((await unary(health, 'check', { service: '' })).status, 'SERVING');
    health.close();
  },
  async tls_serves_the_same() {
    const secure = new AgentRuntime(
      env.SLUICE_TLS_ADDR, grpc.credentials.createSsl(fs.readFileSync(`${env.SLUICE_WORK}/ca.pem`)),
      { 'grpc.ssl_target_name_override': 'localhost' });
    const { events, status } = await collect(secure.executeStreaming({ agent: 'echo', input: 'over tls' }));
    assert.strictEqual(status.code, grpc.status.OK);
    assert.strictEqual(events.at(-1).done.content, 'over tls');
    secure.close();
  },
  async fifty_cancels_leave_the_connection_alone() {
    for (let i = 0; i < 50; i++) {
      const { status } = await collect(
        client.executeStreaming({ agent: 'load', input: 'hang=true' }), (event, call) => call.cancel());
      assert.strictEqual(status.code, grpc.status.CANCELLED);
    }
    assert.strictEqual((await unary(client, 'execute', { agent: 'echo', input: 'ok' })).result.content, 'ok');
  },
};

(async () => {
  let failed = 0;
  for (const [name, run] of Object.entries(cases)) {
    try {
      await run();
      console.log(`ok node.${name}`);
    } catch (error) {
      failed++;
      console.log(`FAIL node.${name}: ${String(error.message).split('\n')[0]}`);
      console.error(error);
    }
  }
  client.close();
  process.exit(failed ? 1 : 0);
})();
