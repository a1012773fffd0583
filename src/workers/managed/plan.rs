//! What is run for a managed worker, in which directory and environment.

use super::Context;
use super::manifest::{self, Manifest, quoted};
use super::place::{Place, hex, project_hash};
use crate::config::{Restart, Watch, Worker, WorkerKind};
use crate::processes::session::Launch;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Files that say what a project depends on (MW-25).
pub const DEPENDENCY_FILES: [&str; 20] = [
    "package.json",
    "package-lock.json",
    "pnpm-lock.yaml",
    "yarn.lock",
    "bun.lock",
    "bun.lockb",
    "npm-shrinkwrap.json",
    "requirements.txt",
    "pyproject.toml",
    "poetry.lock",
    "Pipfile",
    "Pipfile.lock",
    "uv.lock",
    "Cargo.toml",
    "Cargo.lock",
    "go.mod",
    "go.sum",
    "Gemfile",
    "Gemfile.lock",
    "setup.py",
];

/// Directories that hold no sources (MW-32).
const IGNORED: [&str; 43] = [
    "node_modules",
    ".pnpm-store",
    ".parcel-cache",
    ".turbo",
    ".next",
    ".nuxt",
    ".svelte-kit",
    "target",
    ".venv",
    "venv",
    "__pycache__",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
    ".tox",
    "vendor",
    ".bundle",
    ".gradle",
    ".m2",
    "obj",
    ".nuget",
    "_build",
    "deps",
    "dist",
    "build",
    "out",
    "coverage",
    ".cache",
    ".git",
    ".svn",
    ".hg",
    ".idea",
    ".vscode",
    ".DS_Store",
    ".iii",
    "logs",
    ".eggs",
    ".nyc_output",
    ".yarn",
    ".direnv",
    ".terraform",
    ".serverless",
    "tmp",
];

/// Words in a start command that mean it restarts itself.
const WATCHERS: [&str; 5] = ["watch", "watchfiles", "nodemon", "--reload", "--watch"];

/// Variables of the engine's own that a manifest can't set.
const RESERVED: [&str; 3] = ["III_URL", "III_ENGINE_URL", "III_WORKER_NAME"];

/// Everything about one start.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The worker itself.
    pub launch: Launch,
    /// Run before it if `hash` differs from what was installed.
    pub install: Option<Install>,
    /// Why something of the manifest is not done; logged once per start.
    pub remarks: Vec<String>,
    /// Names of workers that start first.
    pub dependencies: Vec<String>,
    /// Project directory to watch.
    pub watch: Option<PathBuf>,
    /// Whether source changes restart it; if not, only while it has failed.
    pub restarts_on_change: bool,
    /// A file made for this start, removed after it.
    pub config_file: Option<PathBuf>,
}

/// The install step.
#[derive(Debug, Clone)]
pub struct Install {
    /// What is run.
    pub launch: Launch,
    /// Project directory, for the hash.
    pub directory: PathBuf,
    /// The command as written, part of the hash.
    pub command: String,
}

impl Install {
    /// Hash of everything that decides what gets installed.
    pub fn hash(&self) -> String {
        let mut hasher = Sha256::new();
        hasher.update(self.command.as_bytes());
        for name in DEPENDENCY_FILES {
            if let Ok(bytes) = std::fs::read(self.directory.join(name)) {
                hasher.update(name.as_bytes());
                hasher.update((bytes.len() as u64).to_le_bytes());
                hasher.update(&bytes);
            }
        }
        hex(&hasher.finalize())
    }
}

/// Plans a start. `Err` says why there can't be one now; it may be different later (MW-7).
pub fn plan(worker: &Worker, context: &Context) -> Result<Plan, String> {
    match &worker.kind {
        WorkerKind::Local => {
            let path = worker.worker_path.as_deref().unwrap_or_default();
            let directory = std::path::absolute(path).map_err(|error| format!("worker_path '{path}': {error}"))?;
            project(worker, &directory, context)
        }
        WorkerKind::Installed if context.place.bundle(base(worker)).join(manifest::FILE_NAME).is_file() => {
            project(worker, &context.place.bundle(base(worker)), context)
        }
        WorkerKind::Installed => installed(worker, context),
        WorkerKind::Image => image(worker, context),
        WorkerKind::BuiltIn(..) | WorkerKind::Custom(_) => Err("it is not a process".to_owned()),
    }
}

fn base(worker: &Worker) -> &str {
    worker.id.split('#').next().unwrap_or(&worker.id)
}

fn project(worker: &Worker, directory: &Path, context: &Context) -> Result<Plan, String> {
    if !directory.is_dir() {
        return Err(format!("'{}' is not a directory", directory.display()));
    }
    let manifest = match manifest::read(directory)? {
        Some(reading) if !reading.shape.is_empty() => {
            return Err(format!("{}: invalid manifest shape: {}", manifest::FILE_NAME, reading.shape.join("; ")));
        }
        Some(reading) => reading.manifest(directory)?,
        None => manifest::detect(directory).ok_or_else(|| no_manifest(directory))?,
    };
    let environment = project_environment(worker, directory, &manifest, context);
    let local = worker.kind == WorkerKind::Local;
    let start = one_process(&manifest.start);
    let launch = Launch {
        directory: Some(directory.to_owned()),
        environment: environment.clone(),
        captured: true,
        lifeline: true,
        ..Launch::shell(&start)
    };
    let mut remarks = Vec::new();
    let allowed = std::env::var("III_ALLOW_SETUP").is_ok_and(|value| value == "1");
    let setup = manifest.setup.as_ref().filter(|_| allowed);
    if manifest.setup.is_some() && !allowed {
        remarks.push("scripts.setup skipped (host process)".to_owned());
    }
    let install = install_command(worker, &manifest, setup, &context.place).map(|command| Install {
        launch: Launch {
            directory: Some(directory.to_owned()),
            environment,
            captured: true,
            ..Launch::shell(&command)
        },
        directory: directory.to_owned(),
        command,
    });
    let watches_itself =
        manifest.start.split(|c: char| c.is_whitespace() || c == '\'' || c == '"').any(|word| WATCHERS.contains(&word));
    let restarts_on_change = match worker.watch {
        Watch::Always => true,
        Watch::Never => false,
        Watch::Auto => !watches_itself && !starts_watcher(&manifest.start, directory),
    };
    Ok(Plan {
        launch,
        install,
        remarks,
        dependencies: manifest.dependencies,
        watch: (local && worker.watch != Watch::Never).then(|| directory.to_owned()),
        restarts_on_change,
        config_file: None,
    })
}

/// The message for a directory nothing is known of (MW-6).
pub fn no_manifest(directory: &Path) -> String {
    format!(
        "No project manifest detected in '{}'.\nLooked for: iii.worker.yaml, package.json, Cargo.toml, pyproject.toml.",
        directory.display()
    )
}

/// `npm run NAME` runs a script of package.json, which may watch.
fn starts_watcher(start: &str, directory: &Path) -> bool {
    let words: Vec<&str> = start.split_whitespace().collect();
    let script = match words.as_slice() {
        ["npm" | "pnpm" | "yarn" | "bun", "run", name, ..] => *name,
        ["npm" | "pnpm" | "yarn", name @ ("start" | "dev"), ..] => *name,
        _ => return false,
    };
    let Ok(text) = std::fs::read_to_string(directory.join("package.json")) else { return false };
    let Ok(package) = serde_json::from_str::<Value>(&text) else { return false };
    let command = package["scripts"][script].as_str().unwrap_or_default();
    command.split_whitespace().any(|word| WATCHERS.contains(&word))
}

/// A single simple command replaces the shell, so that signals reach it first (MW-20).
pub fn one_process(command: &str) -> String {
    const SHELL_WORDS: [&str; 22] = [
        "cd", "export", "set", "unset", "if", "for", "while", "until", "case", "{", "!", "eval", "exec", "source", ".",
        "trap", "ulimit", "umask", "wait", "time", "function", "command",
    ];
    let first = command.split_whitespace().next().unwrap_or_default();
    let simple = !command.contains([';', '&', '|', '<', '>', '(', ')', '`', '\n'])
        && !command.contains("$(")
        && !first.contains('=')
        && !SHELL_WORDS.contains(&first);
    if simple && !first.is_empty() { format!("exec {command}") } else { command.to_owned() }
}

fn install_command(worker: &Worker, manifest: &Manifest, setup: Option<&String>, place: &Place) -> Option<String> {
    let mut steps: Vec<String> = setup.map(|setup| format!("( {setup}\n)")).into_iter().collect();
    if manifest.python {
        let venv = place.venv(&worker.id);
        let python = quoted(&venv.join("bin/python").to_string_lossy());
        steps.push(format!("{{ [ -x {python} ] || python3 -m venv {}; }}", quoted(&venv.to_string_lossy())));
    }
    steps.extend(manifest.install.as_ref().map(|install| format!("( {install}\n)")));
    (!steps.is_empty()).then(|| steps.join(" && "))
}

fn project_environment(
    worker: &Worker,
    directory: &Path,
    manifest: &Manifest,
    context: &Context,
) -> Vec<(String, OsString)> {
    let settable = manifest.env.iter().filter(|(name, _)| !RESERVED.contains(&name.as_str()));
    let mut environment: Vec<(String, OsString)> = settable.map(|(name, value)| (name.clone(), value.into())).collect();
    environment.extend(flattened(&worker.config).into_iter().map(|(name, value)| (name, value.into())));
    environment.extend(context.worker_environment(&worker.id));
    let mut first = Vec::new();
    if manifest.python {
        let venv = context.place.venv(&worker.id);
        first.push(venv.join("bin"));
        environment.push(("VIRTUAL_ENV".to_owned(), venv.into()));
        // Lines of a pipe are else kept back until there are kilobytes of them.
        if std::env::var_os("PYTHONUNBUFFERED").is_none() {
            environment.push(("PYTHONUNBUFFERED".to_owned(), "1".into()));
        }
    }
    if directory.join("package.json").is_file() {
        first.push(directory.join("node_modules/.bin"));
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    let paths = first.into_iter().chain(std::env::split_paths(&path));
    if let Ok(joined) = std::env::join_paths(paths) {
        environment.push(("PATH".to_owned(), joined));
    }
    environment
}

/// Settings as variables: keys joined by `_`, upper case; lists as JSON (MW-12).
pub fn flattened(config: &Value) -> Vec<(String, String)> {
    fn walk(prefix: &str, value: &Value, out: &mut Vec<(String, String)>) {
        match value {
            Value::Object(members) => {
                for (key, value) in members {
                    let key = key.to_uppercase();
                    let name = if prefix.is_empty() { key } else { format!("{prefix}_{key}") };
                    walk(&name, value, out);
                }
            }
            _ if prefix.is_empty() => {}
            Value::Null => out.push((prefix.to_owned(), String::new())),
            Value::String(text) => out.push((prefix.to_owned(), text.clone())),
            other => out.push((prefix.to_owned(), other.to_string())),
        }
    }
    let mut out = Vec::new();
    walk("", config, &mut out);
    out
}

fn installed(worker: &Worker, context: &Context) -> Result<Plan, String> {
    let binary = context.place.binary(base(worker));
    let mut command = vec![binary.clone().into_os_string()];
    if !binary.is_file() {
        return Err(format!("no executable at '{}'", binary.display()));
    }
    let mut config_file = None;
    if !worker.config.is_null() {
        let path = std::env::temp_dir().join(format!("iii-{}-{}-config.yaml", worker.id, std::process::id()));
        write_private(&path, &worker.config).map_err(|error| format!("cannot write '{}': {error}", path.display()))?;
        command.extend(["--config".into(), path.clone().into_os_string()]);
        config_file = Some(path);
    }
    let launch = Launch {
        command,
        environment: context.worker_environment(&worker.id),
        captured: true,
        lifeline: true,
        ..Launch::default()
    };
    Ok(Plan {
        launch,
        install: None,
        remarks: Vec::new(),
        dependencies: Vec::new(),
        watch: None,
        restarts_on_change: false,
        config_file,
    })
}

/// JSON is YAML. The name may have been taken by somebody else: a link is not followed.
fn write_private(path: &Path, config: &Value) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let _ = std::fs::remove_file(path);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(serde_json::to_string_pretty(config)?.as_bytes())?;
    file.write_all(b"\n")
}

fn image(worker: &Worker, context: &Context) -> Result<Plan, String> {
    let image = worker.image.clone().unwrap_or_default();
    let runtime = container_runtime().ok_or_else(|| no_runtime(&worker.id))?;
    let container = format!("iii-{}-{}", project_hash(&context.project), worker.id.replace('#', "-"));
    let mut command: Vec<OsString> =
        [runtime, "run", "--rm", "--init", "--network", "host", "--name", &container].map(OsString::from).to_vec();
    let settings = flattened(&worker.config).into_iter().map(|(name, value)| (name, value.into()));
    let environment: Vec<(String, OsString)> = settings.chain(context.worker_environment(&worker.id)).collect();
    for (name, _) in &environment {
        // Named only: the value is taken from the client's environment, which others can't read.
        command.extend(["--env".into(), name.into()]);
    }
    command.push(image.into());
    let container = Some((runtime.to_owned(), container));
    let launch = Launch { command, environment, captured: true, container, ..Launch::default() };
    Ok(Plan {
        launch,
        install: None,
        remarks: Vec::new(),
        dependencies: Vec::new(),
        watch: None,
        restarts_on_change: false,
        config_file: None,
    })
}

/// What runs containers here.
pub fn container_runtime() -> Option<&'static str> {
    let path = std::env::var_os("PATH")?;
    let directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
    ["docker", "podman"].into_iter().find(|name| directories.iter().any(|directory| directory.join(name).is_file()))
}

/// Why an `image:` entry can't run.
pub fn no_runtime(name: &str) -> String {
    format!(
        "worker '{name}': its image needs docker or podman, and neither is on the PATH; install one of them, \
         or use 'worker_path' instead of 'image'"
    )
}

/// Whether to look into a directory of a project for sources.
pub fn has_sources(directory: &Path) -> bool {
    let name = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    !IGNORED.contains(&name) && !name.ends_with(".egg-info")
}

/// Whether a file is a source: not below an ignored directory of the project, and nothing an editor or a run leaves.
pub fn is_source(path: &Path, project: &Path) -> bool {
    let Ok(inner) = path.strip_prefix(project) else { return false };
    let name = inner.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let passing = name.ends_with('~')
        || name.starts_with(".#")
        || name == "4913"
        || [".swp", ".swx", ".swo", ".tmp", ".log", ".pid", ".sock", ".pyc"].iter().any(|end| name.ends_with(end));
    !passing && !path.is_dir() && inner.ancestors().all(has_sources)
}

/// Whether a worker is started again when it ends well.
pub fn restarts_when_finished(worker: &Worker) -> bool {
    worker.restart == Restart::Always
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    // MW-20
    #[test]
    fn mw_20_a_simple_command_replaces_the_shell() {
        for (command, simple) in [
            ("python a.py", true),
            ("watchfiles 'python a.py'", true),
            ("npm run dev", true),
            ("cd x && npm start", false),
            ("A=1 python a.py", false),
            ("a | b", false),
            ("a; b", false),
            ("cd x", false),
            ("echo $(date)", false),
        ] {
            assert_eq!(one_process(command).starts_with("exec "), simple, "{command}");
        }
    }

    // MW-12
    #[test]
    fn mw_12_settings_become_variables() {
        let config = json!({"a": {"b": 1, "c-d": "x"}, "list": [1, {"k": 2}], "on": true, "none": null});
        let pairs = flattened(&config);
        let shown: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(shown, ["A_B=1", "A_C-D=x", "LIST=[1,{\"k\":2}]", "ON=true", "NONE="]);
        assert_eq!(flattened(&Value::Null), []);
    }

    // MW-32
    #[test]
    fn mw_32_sources() {
        let project = Path::new("/p");
        for (path, expected) in [
            ("/p/a.py", true),
            ("/p/src/deep/a.ts", true),
            ("/p/iii.worker.yaml", true),
            ("/p/node_modules/x/a.js", false),
            ("/p/x.egg-info/PKG-INFO", false),
            ("/p/a.py~", false),
            ("/p/.a.py.swp", false),
            ("/q/a.py", false),
        ] {
            assert_eq!(is_source(Path::new(path), project), expected, "{path}");
        }
    }
}
