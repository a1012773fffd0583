//! The routes as an OpenAPI 3.1 document. Pure.

use std::collections::{HashMap, HashSet};

use iii_shards::http::method::Method;
use iii_shards::http::route::Route;
use serde_json::{Map, Value, json};

/// Schemas of one function, as registered.
#[derive(Default)]
struct Schemas {
    description: Option<String>,
    request: Option<Value>,
    response: Option<Value>,
}

/// Describes `routes`. `functions` is the answer of `engine::functions::list`; without it there are no schemas.
pub fn document<'a>(routes: impl Iterator<Item = &'a Route>, functions: Option<&[u8]>) -> Vec<u8> {
    let functions = functions.map(read_functions).unwrap_or_default();
    let mut routes: Vec<&Route> = routes.collect();
    routes.sort_by(|a, b| (&a.config.api_path, a.config.method).cmp(&(&b.config.api_path, b.config.method)));

    let mut paths: Map<String, Value> = Map::new();
    // Templates that differ in names alone are one path in OpenAPI; the first one's names are taken.
    let mut templates: HashMap<String, Template> = HashMap::new();
    let mut operation_ids = HashSet::new();
    for route in routes {
        let template = Template::of(&route.config.api_path);
        let template = templates.entry(template.shape.clone()).or_insert(template);
        let key = (&*route.namespace, &*route.function_id);
        let schemas = functions.get(&(key.0.to_owned(), key.1.to_owned()));
        let mut operation_id = route.function_id.to_string();
        if !operation_ids.insert(operation_id.clone()) {
            operation_id = format!("{operation_id} {} {}", route.config.method, template.path);
            operation_ids.insert(operation_id.clone());
        }
        let operation = operation(route, template, operation_id, schemas.unwrap_or(&Schemas::default()));
        let path = paths.entry(template.path.clone()).or_insert_with(|| json!({}));
        path[route.config.method.as_str().to_ascii_lowercase()] = operation;
    }
    let document = json!({
        "openapi": "3.1.0",
        "info": { "title": "iii", "version": crate::VERSION },
        "paths": paths,
        "components": { "schemas": { "Error": error_schema() } },
    });
    document.to_string().into_bytes()
}

fn operation(route: &Route, template: &Template, id: String, schemas: &Schemas) -> Value {
    let mut parameters: Vec<Value> = template
        .names
        .iter()
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect();
    let request = schemas.request.as_ref().filter(|schema| is_plausible(schema));
    if let Some(Value::Object(query)) = request.and_then(|schema| schema.pointer("/properties/query_params/properties"))
    {
        for (name, schema) in query {
            parameters.push(json!({ "name": name, "in": "query", "schema": schema }));
        }
    }
    let mut operation = json!({
        "operationId": id,
        "tags": [route.function_id.split("::").next().unwrap_or_default()],
        "responses": {
            "200": { "description": "The function's response." },
            "default": {
                "description": "An error.",
                "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Error" } } },
            },
        },
    });
    if let Some(description) = &schemas.description {
        operation["summary"] = description.as_str().into();
    }
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    let has_body = !matches!(route.config.method, Method::Get | Method::Head | Method::Delete | Method::Options);
    if let Some(schema) = request.filter(|_| has_body).and_then(|schema| body_of(schema, &id, "request")) {
        operation["requestBody"] = json!({ "content": { "application/json": { "schema": schema } } });
    }
    let response = schemas.response.as_ref().filter(|schema| is_plausible(schema));
    if let Some(schema) = response.and_then(|schema| body_of(schema, &id, "response")) {
        operation["responses"]["200"]["content"] = json!({ "application/json": { "schema": schema } });
    }
    operation
}

/// What a schema says about the body: its member `body` if it describes the whole request or response, else all of it.
fn body_of(schema: &Value, id: &str, what: &str) -> Option<Value> {
    const ENVELOPE: [&str; 6] = ["headers", "path_params", "query_params", "method", "status_code", "trigger"];
    let members = schema.get("properties").and_then(Value::as_object);
    let is_envelope = members.is_some_and(|members| ENVELOPE.iter().any(|name| members.contains_key(*name)));
    let mut body = match members.and_then(|members| members.get("body")) {
        Some(body) => body.clone(),
        None if is_envelope => return None,
        None => schema.clone(),
    };
    if let Value::Object(body) = &mut body {
        for definitions in ["$defs", "definitions"] {
            if let Some(shared) = schema.get(definitions) {
                body.insert(definitions.to_owned(), shared.clone());
                // References are meant within the function's own schema.
                let id: String =
                    id.bytes().map(|byte| if byte.is_ascii_alphanumeric() { byte as char } else { '-' }).collect();
                body.insert("$id".to_owned(), format!("urn:iii:{id}:{what}").into());
            }
        }
    }
    Some(body)
}

/// Whether a value can be a JSON Schema: workers may register anything as a format.
fn is_plausible(schema: &Value) -> bool {
    const TYPES: [&str; 7] = ["null", "boolean", "object", "array", "number", "string", "integer"];
    let known = |name: &Value| name.as_str().is_some_and(|name| TYPES.contains(&name));
    let Value::Object(members) = schema else { return schema.is_boolean() };
    members.iter().all(|(name, value)| match name.as_str() {
        "type" => known(value) || value.as_array().is_some_and(|types| !types.is_empty() && types.iter().all(known)),
        "properties" | "$defs" | "definitions" | "patternProperties" => {
            value.as_object().is_some_and(|schemas| schemas.values().all(is_plausible))
        }
        "anyOf" | "allOf" | "oneOf" => {
            value.as_array().is_some_and(|schemas| !schemas.is_empty() && schemas.iter().all(is_plausible))
        }
        "items" | "additionalProperties" | "not" => is_plausible(value),
        "required" => value.as_array().is_some_and(|names| names.iter().all(Value::is_string)),
        "enum" => value.is_array(),
        _ => true,
    })
}

/// A path as OpenAPI writes it.
struct Template {
    path: String,
    names: Vec<String>,
    /// The path without names.
    shape: String,
}

impl Template {
    fn of(api_path: &str) -> Template {
        let mut template = Template { path: String::new(), names: Vec::new(), shape: String::new() };
        for segment in api_path.strip_prefix('/').unwrap_or(api_path).split('/') {
            let braced = segment.strip_prefix('{').and_then(|segment| segment.strip_suffix('}'));
            let name = match (segment.strip_prefix(':'), segment.strip_prefix('*'), braced) {
                (Some(name), ..) => Some((name, false)),
                (None, Some(name), _) => Some((if name.is_empty() { "rest" } else { name }, true)),
                (None, None, Some(name)) => Some((name.trim_start_matches('*'), name.starts_with('*'))),
                (None, None, None) => None,
            };
            template.path.push('/');
            template.shape.push('/');
            let Some((name, takes_rest)) = name else {
                template.path.push_str(segment);
                template.shape.push_str(segment);
                continue;
            };
            template.shape.push_str(if takes_rest { "{*}" } else { "{}" });
            let mut name = name.to_owned();
            while template.names.contains(&name) {
                name.push('_');
            }
            template.path.push_str(&format!("{{{name}}}"));
            template.names.push(name);
        }
        template
    }
}

fn read_functions(answer: &[u8]) -> HashMap<(String, String), Schemas> {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let rows = answer["functions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let read = |row: &Value| {
        let text = |name: &str| row[name].as_str().map(str::to_owned);
        let schema = |name: &str| Some(row[name].clone()).filter(Value::is_object);
        let key = (text("namespace").unwrap_or_else(|| "default".to_owned()), text("function_id")?);
        let (request, response) = (schema("request_format"), schema("response_format"));
        Some((key, Schemas { description: text("description"), request, response }))
    };
    rows.iter().filter_map(read).collect()
}

fn error_schema() -> Value {
    let text = json!({ "type": "string" });
    json!({
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["code", "message"],
                "properties": { "code": text, "message": text, "error_id": text },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use iii_shards::http::route::{Owner, RouteConfig};

    fn route(method: Method, path: &str, function: &str) -> Route {
        Route {
            trigger_id: path.into(),
            owner: Owner::Engine,
            config: RouteConfig::new(method, path),
            function_id: function.into(),
            namespace: "default".into(),
            metadata: None,
        }
    }

    #[test]
    fn routes_become_paths_and_schemas_become_bodies() {
        let routes = [
            route(Method::Get, "/users/:id", "users::get"),
            route(Method::Post, "users/:user/posts/{*rest}", "users::post"),
            route(Method::Put, "/users/:key", "users::get"),
            route(Method::Get, "/", "root"),
        ];
        let functions = json!({ "functions": [
            { "function_id": "users::get", "description": "One user.",
              "response_format": { "type": "object", "properties": { "status_code": {}, "body": { "type": "string" } } } },
            { "function_id": "users::post", "request_format": {
                "type": "object", "properties": { "body": { "$ref": "#/$defs/Post" } }, "$defs": { "Post": { "type": "object" } } } },
            { "function_id": "root", "response_format": { "type": "json" } },
        ]});
        let document: Value =
            serde_json::from_slice(&document(routes.iter(), Some(functions.to_string().as_bytes()))).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let keys: Vec<&String> = paths.keys().collect();
        assert_eq!(keys, ["/", "/users/{id}", "/users/{user}/posts/{rest}"]);
        let user = &paths["/users/{id}"];
        assert_eq!(user["get"]["summary"], "One user.");
        assert_eq!(user["get"]["parameters"][0]["name"], "id");
        assert_eq!(user["get"]["responses"]["200"]["content"]["application/json"]["schema"]["type"], "string");
        assert_eq!(user["put"]["operationId"], "users::get PUT /users/{id}");
        let post = &paths["/users/{user}/posts/{rest}"]["post"]["requestBody"]["content"]["application/json"]["schema"];
        assert_eq!(post["$ref"], "#/$defs/Post");
        assert_eq!(post["$id"], "urn:iii:users--post:request");
        assert!(paths["/"]["get"]["responses"]["200"].get("content").is_none(), "no schema is better than a wrong one");
    }
}
