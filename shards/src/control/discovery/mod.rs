//! Questions about the live registry, answered from control's picture of it (ENG-14 to ENG-42).
//!
//! Every listing is one walk over ordered tables into one buffer: linear in what there is, nothing built in between
//! but a vector of borrowed rows.

mod functions;
mod triggers;
mod workers;

use super::Control;
use crate::wire::json::write_string;

impl Control {
    /// Name to show for whoever registered a function (ENG-11, ENG-13).
    fn owner_name<'a>(&'a self, function: &super::catalog::Function<'a>) -> &'a str {
        let name = self.workers.get(&function.connection).and_then(|worker| worker.name());
        name.unwrap_or_else(|| first_segment(function.id))
    }
}

/// The text before the first `::`.
fn first_segment(id: &str) -> &str {
    id.split("::").next().unwrap_or(id)
}

/// Appends `[`, the items as `write` puts them, `]`.
fn write_array<T>(out: &mut Vec<u8>, items: impl IntoIterator<Item = T>, mut write: impl FnMut(&mut Vec<u8>, T)) {
    out.push(b'[');
    for (index, item) in items.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

/// Appends an array of strings.
fn write_names<'a>(out: &mut Vec<u8>, names: impl IntoIterator<Item = &'a str>) {
    write_array(out, names, write_string);
}

/// An object whose only member is an array.
fn listing<T>(name: &str, rows: impl IntoIterator<Item = T>, write: impl FnMut(&mut Vec<u8>, T)) -> Vec<u8> {
    let mut out = Vec::new();
    out.push(b'{');
    write_string(&mut out, name);
    out.push(b':');
    write_array(&mut out, rows, write);
    out.push(b'}');
    out
}

/// Case-insensitive search; an empty needle finds everything (ENG-14).
struct Needle(String);

impl Needle {
    fn new(text: Option<&str>) -> Needle {
        Needle(text.unwrap_or("").to_lowercase())
    }

    fn is_in(&self, text: &str) -> bool {
        self.0.is_empty() || text.to_lowercase().contains(&self.0)
    }
}
