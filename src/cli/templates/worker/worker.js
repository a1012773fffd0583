// The worker {name}: provides the function `{name}::hello`.
import { registerWorker } from 'iii-sdk'

const worker = registerWorker(process.env.III_URL ?? 'ws://localhost:49134', { workerName: '{name}' })

worker.registerFunction('{name}::hello', async (payload) => ({ greeting: `Hello, ${payload?.name ?? 'stranger'}!` }))

console.log('{name} started')
