//! Values → typed settings, with every problem named by path instead of only the first.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::parse::Target;
use super::problem::{FieldPath, Report, Segment};
use crate::suggest::similar;

/// What to do with a key no field stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownKeys {
    /// It is a problem.
    Refuse,
    /// It is worth a warning, at the top level of the value; deeper it is a problem.
    Warn,
}

/// Most rounds of removing what is wrong and trying again.
const ROUNDS_MAX: usize = 32;

/// Reads `value`, which is written at `base`. `None` if anything is wrong with it; all of it is reported.
pub fn read<T: DeserializeOwned>(
    mut value: Value,
    base: &FieldPath,
    unknown_keys: UnknownKeys,
    report: &mut Report<'_>,
) -> Option<T> {
    let mut clean = true;
    for _ in 0..ROUNDS_MAX {
        let error = match serde_path_to_error::deserialize::<_, T>(value.clone()) {
            Ok(typed) => return clean.then_some(typed),
            Err(error) => error,
        };
        let reason = error.inner().to_string().replace('`', "'");
        let mut steps = steps(error.path());
        let unknown = UnknownField::in_text(&reason);
        if let Some(unknown) = &unknown
            && steps.last() != Some(&Segment::Key(unknown.name.clone()))
        {
            steps.push(Segment::Key(unknown.name.clone()));
        }
        let field = FieldPath([base.0.as_slice(), &steps].concat());
        match &unknown {
            Some(unknown) if unknown_keys == UnknownKeys::Warn && steps.len() == 1 => {
                report.warn(&field, Target::Key, format_args!("ignored unknown setting '{}'", unknown.name));
            }
            Some(unknown) => {
                clean = false;
                // The key is part of the text already; the path leads to the mapping it stands in.
                let holder = FieldPath(field.0[..field.0.len() - 1].to_vec());
                let suggestion = similar(&unknown.name, unknown.known.iter().map(String::as_str));
                report.problem_at(&holder, &field, Target::Key, &reason, suggestion);
            }
            None => {
                clean = false;
                report.problem(&field, Target::Value, &reason);
            }
        }
        if !remove(&mut value, &steps) {
            return None;
        }
    }
    None
}

fn steps(path: &serde_path_to_error::Path) -> Vec<Segment> {
    let step = |segment: &serde_path_to_error::Segment| match segment {
        serde_path_to_error::Segment::Seq { index } => Some(Segment::Index(*index)),
        serde_path_to_error::Segment::Map { key } => Some(Segment::Key(key.clone())),
        serde_path_to_error::Segment::Enum { .. } | serde_path_to_error::Segment::Unknown => None,
    };
    path.iter().map_while(step).collect()
}

/// Removes what `steps` lead to, so that the rest can be checked. False if there is nothing to remove.
fn remove(value: &mut Value, steps: &[Segment]) -> bool {
    let Some((last, before)) = steps.split_last() else { return false };
    let mut at = value;
    for step in before {
        let next = match step {
            Segment::Key(key) => at.get_mut(key),
            Segment::Index(index) => at.get_mut(index),
        };
        match next {
            Some(next) => at = next,
            None => return false,
        }
    }
    match (at, last) {
        (Value::Object(members), Segment::Key(key)) => members.shift_remove(key).is_some(),
        // An element cannot go without shifting the paths of those behind it: stop here.
        _ => false,
    }
}

/// The parts of serde's text about an unknown field.
struct UnknownField {
    name: String,
    known: Vec<String>,
}

impl UnknownField {
    fn in_text(reason: &str) -> Option<UnknownField> {
        let rest = reason.strip_prefix("unknown field '")?;
        let (name, rest) = rest.split_once('\'')?;
        let known = rest.split('\'').skip(1).step_by(2).map(str::to_owned).collect();
        Some(UnknownField { name: name.to_owned(), known })
    }
}
