//! `iii worker init`: a new worker project.

use std::path::PathBuf;

use super::args::InitArguments;
use super::{Failure, Outcome};
use crate::cli::{output, project};
use crate::workers::managed::project::check_name;

/// Runs the verb.
pub fn run(arguments: &InitArguments) -> Outcome {
    let name = arguments.name.clone().unwrap_or_else(|| "my-worker".to_owned());
    check_name(&name)?;
    let directory = PathBuf::from(arguments.directory.clone().unwrap_or_else(|| name.clone()));
    let occupied = std::fs::read_dir(&directory).is_ok_and(|mut entries| entries.next().is_some());
    if occupied && !arguments.allow_non_empty {
        return Err(Failure(format!(
            "target directory is not empty\n  cause: '{}' has files in it\n  fix: pass --allow-non-empty, or pick a \
             different directory",
            directory.display()
        )));
    }
    let package = |start: &str, more: &str| {
        format!(
            "{{\n  \"name\": \"{name}\",\n  \"private\": true,\n  \"type\": \"module\",\n  \"scripts\": {{\n    \
             \"start\": \"{start}\"\n  }},\n  \"dependencies\": {{\n    \"iii-sdk\": \"0.22.1\"\n  }}{more}\n}}\n"
        )
    };
    let manifest =
        |install: &str, start: &str| format!("name: {name}\nscripts:\n  install: {install}\n  start: {start}\n");
    let tsx = ",\n  \"devDependencies\": {\n    \"tsx\": \"^4.19.0\"\n  }";
    let files: Vec<(&str, String)> = match arguments.language.as_deref().unwrap_or("ts") {
        "py" | "python" => vec![
            ("iii.worker.yaml", manifest("pip install -r requirements.txt", "python worker.py")),
            ("requirements.txt", "iii-sdk==0.25.0\n".to_owned()),
            ("worker.py", include_str!("../templates/worker/worker.py").replace("{name}", &name)),
        ],
        "js" | "javascript" => vec![
            ("iii.worker.yaml", manifest("npm install", "npm start")),
            ("package.json", package("node worker.js", "")),
            ("worker.js", include_str!("../templates/worker/worker.js").replace("{name}", &name)),
        ],
        "ts" | "typescript" => vec![
            ("iii.worker.yaml", manifest("npm install", "npm start")),
            ("package.json", package("tsx src/worker.ts", tsx)),
            ("src/worker.ts", include_str!("../templates/worker/worker.ts").replace("{name}", &name)),
        ],
        other => return Err(Failure(format!("no template for the language '{other}'; there are: ts, js, py"))),
    };
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
    project::write(&directory, &files, false)?;
    output::stderr(&format!("✓ worker '{name}' created in {0}\n", directory.display()));
    output::stdout(&format!("Next steps:\n  iii worker add ./{}\n", directory.display()));
    Ok(0)
}
