//! Reading a store: the newest memory first, then the frozen one, then the file.

use super::Table;
use super::base::Base;
use super::memory::Memory;

/// What a store holds, for one reader on the storage thread.
pub struct View<'a> {
    pub(super) base: Option<&'a Base>,
    /// Newest first.
    pub(super) memories: [Option<&'a Memory>; 2],
}

impl View<'_> {
    fn base(&self) -> Result<&Base, String> {
        self.base.ok_or_else(|| "the store cannot be read: it failed before".to_owned())
    }

    /// The value of a key.
    pub fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let key = table.key(key);
        for memory in self.memories.into_iter().flatten() {
            if let Some(known) = memory.get(&key) {
                return Ok(known.map(<[u8]>::to_vec));
            }
        }
        self.base()?.get(&key)
    }

    /// Runs `each` on the entries whose keys begin with `prefix`, in the order of their keys, from `start` on, until it
    /// says stop. `start` is a whole key; empty = from the first.
    pub fn scan(
        &self,
        table: Table,
        prefix: &[u8],
        start: &[u8],
        mut each: impl FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), String> {
        let prefix = table.key(prefix);
        let start = table.key(start).max(prefix.clone());
        let mut newer = Newer::new(self.memories.map(|memory| {
            memory.into_iter().flat_map(|memory| memory.range(&start)).take_while(|(key, _)| key.starts_with(&prefix))
        }));
        let mut stopped = false;
        self.base()?.range(&start, |key, value| {
            if !key.starts_with(&prefix) {
                return false;
            }
            // Everything newer that comes before this key, or replaces it.
            while let Some((newer_key, newer_value)) = newer.peek().filter(|(newer_key, _)| *newer_key <= key) {
                newer.advance();
                if let Some(value) = newer_value
                    && !each(&newer_key[1..], value)
                {
                    stopped = true;
                    return false;
                }
                if newer_key == key {
                    return true;
                }
            }
            stopped = !each(&key[1..], value);
            !stopped
        })?;
        while !stopped && let Some((key, value)) = newer.peek() {
            newer.advance();
            stopped = value.is_some_and(|value| !each(&key[1..], value));
        }
        Ok(())
    }
}

type Known<'a> = (&'a [u8], Option<&'a [u8]>);

/// Two sorted rows as one; of equal keys the first row's counts.
struct Newer<'a, I: Iterator<Item = Known<'a>>> {
    rows: [std::iter::Peekable<I>; 2],
}

impl<'a, I: Iterator<Item = Known<'a>>> Newer<'a, I> {
    fn new(rows: [I; 2]) -> Self {
        Newer { rows: rows.map(Iterator::peekable) }
    }

    fn peek(&mut self) -> Option<Known<'a>> {
        let [first, second] = &mut self.rows;
        match (first.peek(), second.peek()) {
            (Some(a), Some(b)) => Some(if a.0 <= b.0 { *a } else { *b }),
            (Some(a), None) => Some(*a),
            (None, b) => b.copied(),
        }
    }

    fn advance(&mut self) {
        let Some((key, _)) = self.peek() else { return };
        for row in &mut self.rows {
            row.next_if(|(other, _)| *other == key);
        }
    }
}
