//! `iii project init`, `iii init`, `iii create`: a new project, from templates that are part of the program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use argh::FromArgs;

use super::output;

/// Create a project.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "project", help_triggers("-h", "--help"))]
pub struct ProjectArguments {
    /// what to do
    #[argh(subcommand)]
    pub command: ProjectCommand,
}

/// What `iii project` can do.
#[derive(FromArgs, Debug)]
#[argh(subcommand)]
pub enum ProjectCommand {
    /// `init`
    Init(InitArguments),
    /// `generate-docker`
    GenerateDocker(GenerateDockerArguments),
}

macro_rules! init_arguments {
    ($type:ident, $name:tt, $description:tt) => {
        #[doc = $description]
        #[derive(FromArgs, Debug, Default)]
        #[argh(subcommand, name = $name, help_triggers("-h", "--help"))]
        pub struct $type {
            /// directory (default: NAME, else this one)
            #[argh(option, short = 'd')]
            pub directory: Option<PathBuf>,
            /// bare or quickstart (default: bare)
            #[argh(option, short = 't')]
            pub template: Option<String>,
            /// directory with a template of your own; its files are copied
            #[argh(option)]
            pub template_dir: Option<PathBuf>,
            /// also write Dockerfile, docker-compose.yml and .env
            #[argh(switch)]
            pub docker: bool,
            /// also into a directory that is not empty
            #[argh(switch)]
            pub allow_non_empty: bool,
            /// accepted for compatibility; nothing is downloaded
            #[argh(switch)]
            pub skip_iii: bool,
            /// name of the project
            #[argh(positional, arg_name = "NAME")]
            pub name: Option<String>,
        }
    };
}

init_arguments!(InitArguments, "init", "Create a project.");
init_arguments!(CreateArguments, "create", "Create a project (older spelling of `project init`).");

/// Write Dockerfile, docker-compose.yml and .env; what exists is kept.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "generate-docker", help_triggers("-h", "--help"))]
pub struct GenerateDockerArguments {
    /// directory of the project (default: this one)
    #[argh(option, short = 'd')]
    pub directory: Option<PathBuf>,
}

impl From<CreateArguments> for InitArguments {
    fn from(from: CreateArguments) -> InitArguments {
        let CreateArguments { directory, template, template_dir, docker, allow_non_empty, skip_iii, name } = from;
        InitArguments { directory, template, template_dir, docker, allow_non_empty, skip_iii, name }
    }
}

/// Files of a template: path and text.
type Files = &'static [(&'static str, &'static str)];

const BARE: Files =
    &[("config.yaml", include_str!("templates/bare.yaml")), (".gitignore", include_str!("templates/gitignore"))];

const QUICKSTART: Files = &[
    ("config.yaml", include_str!("templates/quickstart/config.yaml")),
    (".gitignore", include_str!("templates/gitignore")),
    ("README.md", include_str!("templates/quickstart/README.md")),
    ("workers/math-worker/iii.worker.yaml", include_str!("templates/quickstart/math-worker/iii.worker.yaml")),
    ("workers/math-worker/requirements.txt", include_str!("templates/quickstart/math-worker/requirements.txt")),
    ("workers/math-worker/math_worker.py", include_str!("templates/quickstart/math-worker/math_worker.py")),
    ("workers/caller-worker/iii.worker.yaml", include_str!("templates/quickstart/caller-worker/iii.worker.yaml")),
    ("workers/caller-worker/package.json", include_str!("templates/quickstart/caller-worker/package.json")),
    ("workers/caller-worker/tsconfig.json", include_str!("templates/quickstart/caller-worker/tsconfig.json")),
    ("workers/caller-worker/src/worker.ts", include_str!("templates/quickstart/caller-worker/src/worker.ts")),
];

const DOCKER: Files = &[
    ("Dockerfile", include_str!("templates/docker/Dockerfile")),
    ("docker-compose.yml", include_str!("templates/docker/docker-compose.yml")),
    (".env", "# Variables of the engine, for ${NAME} in config.yaml.\n"),
];

/// Templates by name; the reference's other names are refused with this list.
const TEMPLATES: [(&str, Files); 2] = [("bare", BARE), ("quickstart", QUICKSTART)];

/// Runs `iii project …`.
pub fn run(arguments: ProjectArguments) -> ExitCode {
    match arguments.command {
        ProjectCommand::Init(arguments) => init(&arguments),
        ProjectCommand::GenerateDocker(arguments) => {
            let directory = arguments.directory.unwrap_or_else(|| PathBuf::from("."));
            finish(write(&directory, DOCKER, false).map(|()| {
                output::stderr("✓ Dockerfile, docker-compose.yml and .env are there\n");
            }))
        }
    }
}

/// Runs `iii project init`, `iii init` and `iii create`.
pub fn init(arguments: &InitArguments) -> ExitCode {
    finish(try_init(arguments))
}

fn finish(outcome: Result<(), String>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            output::stderr(&format!("error: {}\n", text.trim_end()));
            ExitCode::FAILURE
        }
    }
}

fn try_init(arguments: &InitArguments) -> Result<(), String> {
    let template = arguments.template.as_deref().unwrap_or("bare");
    let files = match TEMPLATES.iter().find(|(name, _)| *name == template) {
        Some((_, files)) => *files,
        None if arguments.template_dir.is_some() => BARE,
        None => {
            let names = TEMPLATES.map(|(name, _)| name).join(", ");
            return Err(format!("Template '{template}' not found. Available templates: {names}"));
        }
    };
    let directory = arguments
        .directory
        .clone()
        .or_else(|| arguments.name.clone().map(PathBuf::from))
        .unwrap_or_else(|| PathBuf::from("."));
    let shown = directory.display();
    let again = directory.join(".iii/project.ini").is_file();
    if let Some(found) = first_visible(&directory).filter(|_| !arguments.allow_non_empty && !again) {
        return Err(format!(
            "target directory is not empty\n  cause: {shown} contains {found}\n  fix: pass --allow-non-empty to scaffold \
             into an existing project, or pick a different directory"
        ));
    }
    if let Some(source) = &arguments.template_dir {
        copy(source, &directory)?;
    }
    write(&directory, files, false)?;
    if arguments.docker {
        write(&directory, DOCKER, false)?;
    }
    let name = match &arguments.name {
        Some(name) => name.clone(),
        None => {
            let absolute = std::path::absolute(&directory).unwrap_or_else(|_| directory.clone());
            absolute.file_name().map_or_else(|| "project".to_owned(), |name| name.to_string_lossy().into_owned())
        }
    };
    let name = Path::new(&name).file_name().map_or(name.clone(), |name| name.to_string_lossy().into_owned());
    if !again {
        let id = uuid::Uuid::new_v4();
        let text = format!("[project]\nproject_id={id}\nproject_name={name}\nsource=init\n");
        put(&directory.join(".iii/project.ini"), &text)?;
    }
    output::stderr(&format!("✓ iii project '{name}' initialized at {shown}\n"));
    if template == "quickstart" {
        output::stderr("  Languages: TypeScript, Python\n");
    }
    let mut steps = vec![format!("cd {shown}")];
    if template == "quickstart" {
        steps.push("iii --config config.yaml".to_owned());
        steps.push("iii worker add ./workers/math-worker   # in a second terminal".to_owned());
        steps.push("see README.md for the rest, and docs at https://iii.dev/docs".to_owned());
    } else {
        steps.push("iii worker add <package>".to_owned());
        steps.push("iii".to_owned());
    }
    if arguments.docker {
        steps.push("docker compose up".to_owned());
    }
    let steps: String = steps.iter().map(|step| format!("  {step}\n")).collect();
    output::stdout(&format!("Next steps:\n{steps}"));
    Ok(())
}

/// A file or directory in there; hidden ones do not count.
fn first_visible(directory: &Path) -> Option<String> {
    let names = fs::read_dir(directory).ok()?.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| !name.starts_with('.')).min()
}

/// Writes files; what exists is kept unless `replace`.
pub fn write(directory: &Path, files: &[(&str, &str)], replace: bool) -> Result<(), String> {
    for (path, text) in files {
        let path = directory.join(path);
        if replace || !path.exists() {
            put(&path, text)?;
        }
    }
    Ok(())
}

fn put(path: &Path, text: &str) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot write '{}': {error}", path.display());
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(failed)?;
    }
    fs::write(path, text).map_err(failed)
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot copy '{}': {error}", from.display());
    fs::create_dir_all(to).map_err(failed)?;
    for entry in fs::read_dir(from).map_err(failed)?.flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)?;
        } else if !target.exists() {
            fs::copy(entry.path(), &target).map_err(failed)?;
        }
    }
    Ok(())
}
