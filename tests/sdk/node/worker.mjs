// A worker for tests. Provides five functions under a prefix; makes the calls it reads from standard input.
// One JSON object per line, in: {call, function_id, payload, void, queue}, {trigger: {type, function_id, config}},
// {call, bind: {type, function_id, config}} or {call, unbind: <call that bound>};
// out: {event: "handled" | "outcome", ...}.
import { createInterface } from 'node:readline'

const { registerWorker, TriggerAction } = await import(process.env.III_SDK)
const prefix = process.argv[2]
const worker = registerWorker(process.env.III_URL, { workerName: prefix })

const report = (event, details) => process.stdout.write(`${JSON.stringify({ event, ...details })}\n`)

function withoutCaller(payload) {
  if (payload === null || typeof payload !== 'object' || Array.isArray(payload)) return payload
  const { _caller_worker_id, ...rest } = payload
  return rest
}

const handlers = {
  echo: async (payload) => ({ echo: withoutCaller(payload) }),
  nothing: async () => {},
  event: async () => null,
  throw: async () => {
    throw new Error('handler failed on purpose')
  },
  slow: (payload) => new Promise((resolve) => setTimeout(() => resolve('late'), payload.ms)),
}

for (const [name, handler] of Object.entries(handlers)) {
  worker.registerFunction(`${prefix}::${name}`, (payload) => {
    report('handled', { function: name, payload: withoutCaller(payload) ?? null })
    return handler(payload)
  })
}

const bound = new Map()

createInterface({ input: process.stdin }).on('line', async (line) => {
  const { call, function_id, payload, void: fireAndForget, queue, trigger, bind, unbind } = JSON.parse(line)
  if (trigger) return worker.registerTrigger(trigger)
  if (bind) bound.set(call, worker.registerTrigger(bind))
  if (unbind) bound.get(unbind).unregister()
  if (bind || unbind) return report('outcome', { call, result: null })
  const later = queue ? TriggerAction.Enqueue({ queue }) : undefined
  const action = fireAndForget ? TriggerAction.Void() : later
  try {
    const result = await worker.trigger({ function_id, payload, action })
    report('outcome', { call, result: result ?? null })
  } catch (error) {
    report('outcome', { call, error: { code: error.code ?? null, message: error.message } })
  }
})
