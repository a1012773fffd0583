// A worker that adds by asking another one: provides the function `math::add_two_numbers`.
import { registerWorker } from 'iii-sdk'

const worker = registerWorker(process.env.III_URL ?? 'ws://localhost:49134', { workerName: 'caller-worker' })

worker.registerFunction('math::add_two_numbers', async ({ a, b }) => {
  const sum = await worker.trigger({ function_id: 'math::add', payload: { a, b } })
  return { ...sum, success: 'Two workers, two languages, one call.' }
})

console.log('Caller worker started - listening for calls')
