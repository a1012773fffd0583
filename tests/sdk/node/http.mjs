// A worker for tests of HTTP triggers: functions of every kind under a prefix, each with its route `/<prefix>/<name>`.
const { registerWorker, http: own } = await import(process.env.III_SDK)
const helpers = new URL('../../@iii-dev/helpers/dist/http/index.mjs', `file://${process.env.III_SDK}`)
const { http } = own ? { http: own } : await import(helpers.href)

const prefix = process.argv[2]
const worker = registerWorker(process.env.III_URL, { workerName: prefix })
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
const { stringify } = JSON

const handlers = {
  api: async ({ method, path, path_params, query_params, body, request_body, response }) => ({
    status_code: 201,
    headers: { 'X-Sdk': prefix },
    body: { method, path, path_params, query_params, body, ends: [typeof request_body, typeof response] },
  }),
  nothing: async () => {},
  throw: async () => {
    throw new Error('kaboom')
  },
  plain: async () => ({ hello: 1 }),
  html: async () => ({ status_code: 200, headers: { 'content-type': 'text/html' }, body: '<p>é</p>' }),
  sse: http(async (_request, response) => {
    response.status(202)
    response.headers({ 'content-type': 'text/event-stream' })
    for (let event = 0; event < 3; event += 1) {
      response.stream.write(`data: ${event}\n\n`)
      await pause(50)
    }
    response.close()
  }),
  upload: http(async (request, response) => {
    let bytes = 0
    for await (const chunk of request.request_body.stream) bytes += chunk.length
    response.status(200)
    response.stream.end(`got ${bytes}`)
  }),
  missing: http(async (_request, response) => {
    response.status(404)
    response.headers({ 'content-type': 'application/json' })
    response.stream.end(stringify({ missing: true }))
  }),
  guarded: async () => ({ status_code: 200, body: 'in' }),
}

for (const [name, handler] of Object.entries(handlers)) {
  worker.registerFunction(`${prefix}::${name}`, handler)
}
worker.registerFunction(`${prefix}::condition`, async ({ query_params }) => query_params.ok === '1')
worker.registerFunction(`${prefix}::middleware`, async ({ request }) =>
  request.headers['x-key'] === 'k'
    ? { action: 'continue' }
    : { action: 'respond', response: { status_code: 401, body: { error: 'no key' } } },
)

const route = (name, config) => worker.registerTrigger({ type: 'http', function_id: `${prefix}::${name}`, config })
for (const name of Object.keys(handlers)) {
  if (!['api', 'guarded'].includes(name)) route(name, { api_path: `${prefix}/${name}`, http_method: 'POST' })
}
route('guarded', {
  api_path: `${prefix}/guarded`,
  http_method: 'GET',
  condition_function_id: `${prefix}::condition`,
  middleware_function_ids: [`${prefix}::middleware`],
})
route('api', { api_path: `/${prefix}/api/:id`, http_method: 'POST' })
