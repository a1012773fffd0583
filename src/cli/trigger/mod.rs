//! `iii trigger`: call one function as an ordinary worker and print what it answers.

pub(super) mod client;
mod help;
mod payload;

use std::fmt::Display;
use std::io::{IsTerminal, Read, stderr};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use self::client::{Call, CallError, Endpoint};
use super::args::{self, TriggerArguments};
use super::output;
use super::usage::UsageError;

/// Environment variable naming the engine when no option does (CLI-21).
const URL_VARIABLE: &str = "III_URL";
/// Port of the engine when nothing names one.
const PORT_DEFAULT: u16 = 49134;
/// Longest wait for the live half of the help.
const HELP_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs `iii trigger`.
pub fn run(arguments: &TriggerArguments) -> Result<ExitCode, UsageError> {
    let (function_id, pairs) = function_and_pairs(arguments)?;
    let endpoint = endpoint(arguments)?;
    let Some(function_id) = function_id else {
        return Ok(output::fail(&"iii trigger: missing FUNCTION_PATH. Try: iii trigger engine::functions::list"));
    };
    let payload =
        match base_payload(arguments).and_then(|base| payload::build(base, pairs).map_err(|error| error.to_string())) {
            Ok(payload) => payload,
            Err(text) => return Ok(output::fail(&text)),
        };
    let call = Call { function_id, namespace: arguments.namespace.as_deref(), payload };
    Ok(match client::call(&endpoint, call, Duration::from_millis(arguments.timeout_ms)) {
        Ok(result) => {
            if let Some(result) = result {
                output::stdout(&format!("{}\n", client::pretty(&result)));
            }
            ExitCode::SUCCESS
        }
        Err(error) => output::fail(&shown(&error)),
    })
}

/// Runs `iii trigger … --help`.
pub fn help(arguments: &TriggerArguments) -> Result<ExitCode, UsageError> {
    let (function_id, _) = function_and_pairs(arguments)?;
    let general = args::help(&["trigger"]);
    let Some(function_id) = function_id else {
        output::stdout(&general);
        return Ok(ExitCode::SUCCESS);
    };
    let endpoint = endpoint(arguments)?;
    let mut payload = json!({ "function_id": function_id });
    if let Some(namespace) = &arguments.namespace {
        payload["namespace"] = Value::from(namespace.as_str());
    }
    let call = Call { function_id: "engine::functions::info", namespace: None, payload };
    let timeout = HELP_TIMEOUT.min(Duration::from_millis(arguments.timeout_ms));
    Ok(match client::call(&endpoint, call, timeout) {
        Ok(info) => {
            let options = general.find("Options:").map_or("", |at| &general[at..]);
            output::stdout(&format!("{}\n{options}", help::describe(&info.unwrap_or_default())));
            ExitCode::SUCCESS
        }
        Err(CallError::Remote(body)) if body["code"] == "NOT_FOUND" => {
            output::stderr(&format!(
                "error: function '{function_id}' not found in engine registry.\n\
                 Run 'iii trigger engine::functions::list' to see what is registered.\n"
            ));
            ExitCode::FAILURE
        }
        Err(error) => {
            output::stderr(&format!("warning: no live help for '{function_id}': {}\n", shown(&error)));
            output::stdout(&general);
            ExitCode::SUCCESS
        }
    })
}

/// The function and the words after it. With `--function-id` every word is a pair.
fn function_and_pairs(arguments: &TriggerArguments) -> Result<(Option<&str>, &[String]), UsageError> {
    match (&arguments.function_id, arguments.words.split_first()) {
        (Some(_), Some((word, _))) if !word.contains('=') => {
            Err(UsageError::conflict("--function-id <FUNCTION_ID>", "[FUNCTION_PATH]"))
        }
        (Some(id), _) => Ok((Some(id), &arguments.words)),
        (None, Some((id, pairs))) => Ok((Some(id), pairs)),
        (None, None) => Ok((None, &[])),
    }
}

fn endpoint(arguments: &TriggerArguments) -> Result<Endpoint, UsageError> {
    let TriggerArguments { url, address, port, .. } = arguments;
    let invalid = |option: &str| {
        let option = option.to_owned();
        move |reason| UsageError::new(format!("invalid value for '{option}': {reason}"))
    };
    match (url, address, port) {
        (Some(_), Some(_), _) => Err(UsageError::conflict("--url <URL>", "--address <ADDRESS>")),
        (Some(_), None, Some(_)) => Err(UsageError::conflict("--url <URL>", "--port <PORT>")),
        (Some(url), None, None) => Endpoint::parse(url).map_err(invalid("--url <URL>")),
        (None, None, None) => match std::env::var(URL_VARIABLE) {
            Ok(url) if !url.is_empty() => Endpoint::parse(&url).map_err(invalid(URL_VARIABLE)),
            _ => Ok(at("localhost", PORT_DEFAULT)),
        },
        (None, address, port) => Ok(at(address.as_deref().unwrap_or("localhost"), port.unwrap_or(PORT_DEFAULT))),
    }
}

fn at(host: &str, port: u16) -> Endpoint {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Endpoint { host: host.to_owned(), port, path: "/".to_owned() }
}

/// The value of `--json`, or of `--payload`, its older spelling.
fn base_payload(arguments: &TriggerArguments) -> Result<Option<Value>, String> {
    match (&arguments.json, &arguments.payload) {
        (Some(_), Some(_)) => Err("--json and --payload say the same thing; give one of them".to_owned()),
        (None, None) => Ok(None),
        (Some(json), None) => {
            let text = source(json).map_err(|error| format!("--json: {error}"))?;
            let invalid =
                |cause: serde_json::Error| format!("--json: invalid JSON '{json}'\n\nCaused by:\n    {cause}");
            serde_json::from_str(&text).map(Some).map_err(invalid)
        }
        (None, Some(json)) => {
            let text = source(json).map_err(|error| format!("--payload: {error}"))?;
            serde_json::from_str(&text).map(Some).map_err(|cause| format!("Invalid JSON payload: {cause}"))
        }
    }
}

/// `-` is standard input, `@FILE` a file; neither is valid JSON (CLI-25).
fn source(json: &str) -> Result<String, String> {
    if json == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(|error| format!("cannot read standard input: {error}"))?;
        return Ok(text);
    }
    match json.strip_prefix('@') {
        Some(path) => std::fs::read_to_string(path).map_err(|error| format!("cannot read '{path}': {error}")),
        None => Ok(json.to_owned()),
    }
}

/// An error as text; cleaned when a person reads it (CLI-31).
fn shown(error: &dyn Display) -> String {
    let text = error.to_string();
    if stderr().is_terminal() { output::printable(&text) } else { text }
}
