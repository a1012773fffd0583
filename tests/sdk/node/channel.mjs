// A worker for tests of channels. Provides `<prefix>::read`, which reads a channel to its end. With a target, creates a
// channel, lets `<target>::read` have its reader, writes, and reports what the target got: {event: "outcome", result}.
import { createHash } from 'node:crypto'

const { registerWorker } = await import(process.env.III_SDK)
const [prefix, target] = process.argv.slice(2)
const worker = registerWorker(process.env.III_URL, { workerName: prefix })

worker.registerFunction(`${prefix}::read`, ({ reader }) => {
  const texts = []
  const hash = createHash('sha256')
  let bytes = 0
  reader.onMessage((text) => texts.push(text))
  return new Promise((resolve, reject) => {
    reader.stream.on('data', (chunk) => {
      bytes += chunk.length
      hash.update(chunk)
    })
    reader.stream.on('end', () => resolve({ bytes, texts, sha256: hash.digest('hex') }))
    reader.stream.on('error', reject)
  })
})

async function createChannel(size) {
  if (worker.createChannel) return worker.createChannel(size)
  const helpers = await import(process.env.III_SDK.replace('index.mjs', 'helpers.mjs'))
  return helpers.createChannel(worker, size)
}

if (target) {
  const channel = await createChannel(16)
  const reading = worker.trigger({ function_id: `${target}::read`, payload: { reader: channel.readerRef } })
  channel.writer.sendMessage('text first')
  for (let part = 0; part < 30; part += 1) {
    const chunk = Buffer.alloc(100_000, part)
    await new Promise((resolve, reject) => channel.writer.stream.write(chunk, (error) => (error ? reject(error) : resolve())))
  }
  channel.writer.stream.end()
  process.stdout.write(`${JSON.stringify({ event: 'outcome', result: await reading })}\n`)
}
