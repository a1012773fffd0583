//! A configuration file of any content gives a configuration or its problems.
#![no_main]

use iii::config::{Surroundings, parse_text};
use libfuzzer_sys::fuzz_target;
use std::path::{Path, PathBuf};

fuzz_target!(|text: &str| {
    let surroundings = Surroundings {
        variable: Box::new(|name| (name == "SET").then(|| "1".into())),
        installed: Box::new(|_| false),
        custom_classes: Vec::new(),
        cpus: 2,
        directory: PathBuf::from("/"),
    };
    if let Err(problem) = parse_text(Path::new("config.yaml"), text.to_owned(), &surroundings) {
        let _ = problem.to_string();
    }
});
