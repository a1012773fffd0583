// A worker that adds by asking another one: `math::add_two_numbers`, and the same over HTTP.
import { registerWorker } from 'iii-sdk'

type Numbers = { a: number; b: number }
type Sum = { c: number; running_total?: number }

const worker = registerWorker(process.env.III_URL ?? 'ws://localhost:49134', { workerName: 'caller-worker' })

const add = (payload: Numbers) => worker.trigger<Numbers, Sum>({ function_id: 'math::add', payload })

worker.registerFunction('math::add_two_numbers', async ({ a, b }: Numbers) => ({
  ...(await add({ a, b })),
  success: "You've connected two workers in two languages.",
}))

worker.registerFunction('http::add_two_numbers', async ({ body }: { body: Numbers }) => ({
  status_code: 200,
  body: await add(body),
}))

// Waits for an HTTP worker: after `iii worker add iii-http` the endpoint is there.
worker.registerTrigger({
  type: 'http',
  function_id: 'http::add_two_numbers',
  config: { api_path: '/math/add-two-numbers', http_method: 'POST' },
})

console.log('Caller worker started - listening for calls')
