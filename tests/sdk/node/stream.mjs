// A worker for tests of streams. Provides the stream `<prefix>-own` itself, and has `<prefix>::changed` fired by changes
// of the stream `<prefix>`. Makes the calls it reads from standard input, like worker.mjs.
import { createInterface } from 'node:readline'

const { registerWorker } = await import(process.env.III_SDK)
const prefix = process.argv[2]
const worker = registerWorker(process.env.III_URL, { workerName: prefix })

const report = (event, details) => process.stdout.write(`${JSON.stringify({ event, ...details })}\n`)

const items = new Map()
const stream = {
  get: async ({ item_id }) => items.get(item_id),
  set: async ({ item_id, data }) => {
    const old_value = items.get(item_id)
    items.set(item_id, data)
    return { old_value, new_value: data }
  },
  delete: async ({ item_id }) => {
    const old_value = items.get(item_id)
    items.delete(item_id)
    return { old_value }
  },
  list: async () => [...items.values()],
  listGroups: async () => ['own'],
  update: async () => null,
}
if (worker.createStream) {
  worker.createStream(`${prefix}-own`, stream)
} else {
  const { createStream } = await import(process.env.III_SDK.replace('index.mjs', 'helpers.mjs'))
  createStream(worker, `${prefix}-own`, stream)
}

worker.registerFunction(`${prefix}::changed`, async (payload) => {
  const { _caller_worker_id, ...rest } = payload
  report('handled', { function: 'changed', payload: rest })
})
worker.registerTrigger({ type: 'stream', function_id: `${prefix}::changed`, config: { stream_name: prefix } })
worker.registerFunction(`${prefix}::echo`, async (payload) => payload)

createInterface({ input: process.stdin }).on('line', async (line) => {
  const { call, function_id, payload } = JSON.parse(line)
  try {
    const result = await worker.trigger({ function_id, payload })
    report('outcome', { call, result: result ?? null })
  } catch (error) {
    report('outcome', { call, error: { code: error.code ?? null, message: error.message } })
  }
})
