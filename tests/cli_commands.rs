//! The built binary from outside: exit codes, and which stream says what.

use std::path::Path;
use std::process::{Command, Output, Stdio};

fn iii(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_iii"))
        .args(arguments)
        .env_remove("III_URL")
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs")
}

/// Exit code, standard output, standard error.
fn outcome(arguments: &[&str]) -> (i32, String, String) {
    let output = iii(arguments);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("not killed"), text(output.stdout), text(output.stderr))
}

/// CLI-8, case 1.
#[test]
fn cli_8_version() {
    let version = format!("{}\n", iii::VERSION);
    for arguments in [&["-v"][..], &["--version"], &["-c", "x", "--version"], &["--version", "trigger"], &["-vc", "x"]]
    {
        assert_eq!(outcome(arguments), (0, version.clone(), String::new()), "{arguments:?}");
    }
}

/// CLI-6, CLI-7, CFG-7; cases 2, 15.
#[test]
fn cli_6_7_usage_errors_end_with_2() {
    let more = "\n\nFor more information, try '--help'.\n";
    let usage = format!("\n\nUsage: iii [OPTIONS] [COMMAND]{more}");
    for (arguments, expected) in [
        (&["-V"][..], format!("error: unexpected argument '-V' found{usage}")),
        (&["--bogus"], format!("error: unexpected argument '--bogus' found{usage}")),
        (&["bogus"], format!("error: unrecognized subcommand 'bogus'{usage}")),
        (&["start"], format!("error: unrecognized subcommand 'start'{usage}")),
        (&["help", "bogus"], format!("error: unrecognized subcommand 'bogus'{usage}")),
        (&["-c"], format!("error: a value is required for '--config <CONFIG>' but none was supplied{more}")),
        (
            &["--config", "x", "--use-default-config"],
            format!("error: the argument '--use-default-config' cannot be used with '--config <CONFIG>'{more}"),
        ),
        (&["--shards", "0"], format!("error: invalid value '0' for '--shards <SHARDS>': 0 is not in 1..=64{more}")),
        (
            &["--port=70000"],
            format!("error: invalid value '70000' for '--port <PORT>': 70000 is not in 0..=65535{more}"),
        ),
        (
            &["trigger", "f", "--timeout-ms", "abc"],
            format!("error: invalid value 'abc' for '--timeout-ms <TIMEOUT_MS>': invalid digit found in string{more}"),
        ),
        (
            &["trigger", "--url", "ws://h", "--port", "1", "f"],
            format!("error: the argument '--url <URL>' cannot be used with '--port <PORT>'{more}"),
        ),
        (
            &["trigger", "--function-id", "a::b", "c::d"],
            format!("error: the argument '--function-id <FUNCTION_ID>' cannot be used with '[FUNCTION_PATH]'{more}"),
        ),
    ] {
        assert_eq!(outcome(arguments), (2, String::new(), expected), "{arguments:?}");
    }
}

/// CLI-9, case 14.
#[test]
fn cli_9_help() {
    for arguments in [
        &["-h"][..],
        &["--help"],
        &["help"],
        &["help", "t"],
        &["trigger", "-h"],
        &["config", "check", "--help"],
        &["project"],
    ] {
        let (code, stdout, stderr) = outcome(arguments);
        assert_eq!((code, stderr.as_str()), (0, ""), "{arguments:?}");
        assert!(stdout.starts_with("Usage: iii"), "{arguments:?}: {stdout}");
        assert!(!stdout.contains('\u{1b}'), "{arguments:?}");
    }
    for arguments in [&["worker"][..], &["config"]] {
        let (code, stdout, stderr) = outcome(arguments);
        assert_eq!((code, stdout.as_str()), (2, ""), "{arguments:?}");
        assert!(stderr.starts_with("Usage: iii"), "{arguments:?}: {stderr}");
    }
}

/// CLI-44.
#[test]
fn cli_44_commands_that_are_not_provided() {
    for command in ["console", "cloud", "update", "compose", "sandbox"] {
        let (code, stdout, stderr) = outcome(&[command, "x", "--flag"]);
        assert_eq!((code, stdout.as_str()), (1, ""), "{command}");
        assert!(stderr.starts_with(&format!("error: 'iii {command}' is not part of this engine")), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
}

/// CLI-13, CFG-5, CFG-6.
#[test]
fn cli_13_a_configuration_error_ends_with_1() {
    for (path, expected) in [
        ("none.yaml", "Error: Config file not found: 'none.yaml'.\nHint: "),
        ("src", "Error: Failed to read config file 'src': Is a directory (os error 21)\n"),
    ] {
        let (code, stdout, stderr) = outcome(&["-c", path]);
        assert_eq!((code, stdout.as_str()), (1, ""), "{path}");
        assert!(stderr.starts_with(expected), "{stderr}");
    }
    assert!(!Path::new("none.yaml").exists());
}

/// CLI-60.
#[test]
fn cli_60_config_check() {
    assert_eq!(outcome(&["config", "check", "config.yaml"]), (0, "config.yaml: ok\n".to_owned(), String::new()));
    let path = std::env::temp_dir().join(format!("iii-check-{}.yaml", std::process::id()));
    std::fs::write(&path, "workers:\n  - name: iii-http\n    config: {prot: 1, port: x}\nfoo: 1\n").expect("write");
    let shown = path.to_str().expect("UTF-8");
    for arguments in [&["config", "check", shown][..], &["-c", shown, "config", "check"]] {
        let (code, stdout, stderr) = outcome(arguments);
        assert_eq!((code, stderr.as_str()), (1, ""));
        let places: Vec<&str> =
            stdout.lines().filter_map(|line| line.strip_prefix(shown)?.split(": ").next()).collect();
        assert_eq!(places, [":3:14", ":3:29", ":4:1"], "{stdout}");
    }
    std::fs::remove_file(&path).expect("remove");
}

/// CLI-61.
#[test]
fn cli_61_config_show() {
    let (code, stdout, _) = outcome(&["--use-default-config", "config", "show"]);
    assert_eq!(code, 0);
    let shown: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    let names: Vec<&str> =
        shown["workers"].as_array().expect("list").iter().filter_map(|worker| worker["name"].as_str()).collect();
    assert_eq!(
        names,
        [
            "iii-engine-functions",
            "iii-observability",
            "configuration",
            "iii-http",
            "iii-stream",
            "iii-state",
            "iii-queue",
            "iii-pubsub",
            "iii-cron",
            "iii-worker-manager",
        ]
    );
    let (_, schema, _) = outcome(&["config", "schema"]);
    assert_eq!(schema, std::fs::read_to_string("config.schema.json").expect("config.schema.json"));
}
