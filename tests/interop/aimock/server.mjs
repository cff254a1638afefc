// A third party's mock of OpenAI's API, with the answers that the suite asks for. Writes its address when it listens.
import { writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';

const { LLMock } = createRequire(`${process.env.NODE_PATH}/`)('@copilotkit/aimock');
const mock = new LLMock({ port: 0, latency: 20, chunkSize: 8, logLevel: 'silent' });
const parallel = {
  toolCalls: [
    { id: 'call_a', name: 'current_time', arguments: {} },
    { id: 'call_b', name: 'system_info', arguments: {} },
  ],
};
mock.onMessage('say hello', { content: 'Hello from a third-party model server.' });
mock.onMessage('think first', { reasoning: 'The user wants me to think.', content: 'I thought about it.' });
mock.addFixture({ match: { userMessage: 'use tools', hasToolResult: false }, response: parallel });
mock.addFixture({ match: { userMessage: 'use tools', hasToolResult: true }, response: { content: 'Both tools answered.' } });
mock.onMessage('be cut', { content: 'This text is far too long to arrive before the end.' }, { truncateAfterChunks: 3 });
mock.addFixture({
  match: { userMessage: 'be limited' },
  response: { error: { message: 'Rate limited', type: 'rate_limit_error' }, status: 429 },
});
mock.onMessage('be slow', { content: 'slow '.repeat(500) });
await mock.start();
writeFileSync(process.argv[2], `${mock.url}\n`);
process.on('SIGTERM', () => process.exit(0));
