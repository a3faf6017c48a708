// Makes a topic, produces two records, fetches them back and compares; then does something wrong and reads the problem.
// Run by `openapi/typescript.sh URL`.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { createTopic, deleteTopic, fetchRecords, getTopic, produceToPartition } from './client';
import { createClient, createConfig } from './client/client';
import type { ProduceRecord } from './client';

async function main(url: string): Promise<void> {
  const client = createClient(createConfig({ baseUrl: url }));
  const topic = `example-typescript-${randomUUID()}`;

  // With `throwOnError` a call gives its data, or throws the problem.
  const made = await createTopic({ client, throwOnError: true, body: { name: topic, partitions: 1 } });
  assert.equal(made.data.name, topic);
  assert.equal(made.data.partitions.length, 1);

  try {
    const path = { topic, partition: 0 };
    const records: ProduceRecord[] = [
      {
        key: 'ключ 1',
        headers: [{ name: 'trace', value: 'abc' }, { name: 'trace', base64: '/wA=' }, { name: 'empty' }],
        timestamp: Date.now(),
        value: { total: 10, largest: Number.MAX_SAFE_INTEGER, nothing: null, list: [1.5, 'x', true] },
      },
      { key: 'k2', text: 'plain text' },
    ];
    const produced = await produceToPartition({ client, throwOnError: true, path, body: { records } });
    assert.equal(produced.data.durability, 'fsync');
    assert.deepEqual(produced.data.results.map((result) => result.offset), [0, 1]);

    const fetched = await fetchRecords({ client, throwOnError: true, path, query: { offset: 0, max_wait_ms: 1000 } });
    assert.equal(fetched.data.records.length, records.length);
    assert.equal(fetched.data.next_offset, 2);
    fetched.data.records.forEach((record, place) => {
      const { partition, offset, ...rest } = record;
      assert.deepEqual({ partition, offset }, { partition: 0, offset: place });
      const timestamp = produced.data.results[place]?.timestamp;
      assert.deepEqual(rest, { ...records[place], timestamp });
    });

    // Without `throwOnError` it gives one or the other, and the answer itself.
    const wrong = await getTopic({ client, path: { topic: `${topic}-that-is-not-there` } });
    assert.equal(wrong.response?.status, 404);
    assert.equal(wrong.error?.code, 'topic-not-found');
    assert.equal(wrong.error?.retryable, false);
  } finally {
    await deleteTopic({ client, throwOnError: true, path: { topic } });
  }
  console.log('typescript: produced and fetched 2 records');
}

const url = process.argv[2];
if (url === undefined) {
  console.error('usage: example.js URL');
  process.exit(2);
}
main(url.replace(/\/$/, '')).catch((error: unknown) => {
  console.error(error);
  process.exit(1);
});
