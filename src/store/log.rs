//! The log: every group of changes, in order, before anything else happens with it.
//!
//! Owner: the storage thread. The log is a row of segment files, each beginning with the number of its first group.
//! A group counts once it is written (relaxed) or written and synced (full). Segments whose groups are in the file
//! are deleted.
//!
//! ```text
//! segment: "iiilog01" · first group u64 · groups synced before u64 · checksum u64
//! group:   length u32 · count u32 · number u64 · groups synced before u64 · checksum u64 · operations
//! operation: kind u8 · key length u32 · value length u32 · key · value            (all little-endian)
//! ```
//!
//! A group that is not whole ends the log if it may be one that was never acknowledged. If a later group says that it
//! was safe before, the disk has lost it: that is an error, and nothing is changed.

use super::batch::Operation;
use super::files;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::xxh3_64_with_seed;

const MAGIC: &[u8; 8] = b"iiilog01";
const SEGMENT_HEADER: usize = 32;
const GROUP_HEADER: usize = 32;
const OPERATION_HEADER: usize = 9;

/// An open log, to be written at its end.
pub(super) struct Log {
    directory: PathBuf,
    file: File,
    /// Bytes of the segment that count.
    length: u64,
    /// Number of the last group written.
    last: u64,
    /// Number of the last group known to be on stable storage.
    synced: u64,
    /// First group and name of each segment, oldest first; the last one is being written.
    segments: Vec<(u64, PathBuf)>,
    /// The segment being written can't be trusted: a sync failed, or a partial group could not be taken back.
    spoilt: bool,
    buffer: Vec<u8>,
}

impl Log {
    /// Opens the log of a directory and hands over each group after number `applied`.
    pub(super) fn open(directory: &Path, applied: u64, mut each: impl FnMut(Operation)) -> Result<Log, String> {
        let segments = segments_of(directory)?;
        let Some((_, newest)) = segments.last() else {
            return Log::create(directory, applied).map_err(|error| files::failed("write to", directory, &error));
        };
        let newest = newest.clone();
        let mut last = applied;
        let mut end = SegmentRead { last: applied, length: 0 };
        for (index, (first, path)) in segments.iter().enumerate() {
            let (limit, safe) = match segments.get(index + 1) {
                Some((next, path)) => (next - 1, header_of(path)?.synced),
                None => (u64::MAX, 0),
            };
            if limit <= applied {
                continue;
            }
            if *first > last + 1 {
                let missing = format!("changes {} to {} are missing", last + 1, first - 1);
                return Err(corrupt(path, 0, &missing));
            }
            let text = std::fs::read(path).map_err(|error| files::failed("read", path, &error))?;
            end = read_segment(path, &text, *first, limit, |number, operations| {
                if number > last {
                    operations.into_iter().for_each(&mut each);
                    last = number;
                }
            })?;
            if end.last < safe.min(limit) {
                return Err(corrupt(path, end.length, "changes that were on disk are gone"));
            }
        }
        let failed = |error: io::Error| files::failed("write to", directory, &error);
        let mut file = OpenOptions::new().write(true).open(&newest).map_err(failed)?;
        // What was read may still be in the page cache only. What follows it was never acknowledged.
        file.set_len(end.length).and_then(|()| file.sync_all()).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        let (directory, buffer) = (directory.to_owned(), Vec::new());
        let mut log = Log { directory, file, length: end.length, last, synced: last, segments, spoilt: false, buffer };
        if end.last < last {
            // The file is ahead of a log whose unsynced end was lost. Numbers never repeat and never leave a gap.
            log.rotate().map_err(|error| files::failed("write to", &log.directory, &error))?;
        }
        Ok(log)
    }

    fn create(directory: &Path, last: u64) -> io::Result<Log> {
        let (file, path) = new_segment(directory, last + 1, last)?;
        let (length, buffer) = (SEGMENT_HEADER as u64, Vec::new());
        let (directory, segments) = (directory.to_owned(), vec![(last + 1, path)]);
        Ok(Log { directory, file, length, last, synced: last, segments, spoilt: false, buffer })
    }

    /// Number of the last group written.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Bytes of the segment being written.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Whether every group is on stable storage.
    pub(super) fn is_synced(&self) -> bool {
        self.synced == self.last
    }

    /// Writes a group. On an error it is as if it had not been tried.
    pub(super) fn append<'a>(&mut self, operations: impl Iterator<Item = &'a Operation>, sync: bool) -> io::Result<()> {
        if self.spoilt {
            self.rotate()?;
        }
        let number = self.last + 1;
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        encode_group(&mut buffer, number, self.synced, operations);
        let written = self.file.write_all(&buffer);
        let bytes = buffer.len() as u64;
        // A large group must not keep its buffer.
        self.buffer = if buffer.capacity() <= 1 << 20 { buffer } else { Vec::new() };
        if let Err(error) = written {
            self.take_back();
            return Err(error);
        }
        if sync && let Err(error) = self.file.sync_data() {
            // The kernel may have dropped the pages: what this segment holds beyond `synced` is unknown from now on.
            self.spoilt = true;
            return Err(error);
        }
        self.last = number;
        self.length += bytes;
        if sync {
            self.synced = number;
        }
        Ok(())
    }

    /// Puts on stable storage what has been written.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if self.is_synced() {
            return Ok(());
        }
        self.file.sync_data().inspect_err(|_| self.spoilt = true)?;
        self.synced = self.last;
        Ok(())
    }

    /// Begins a new segment.
    pub(super) fn rotate(&mut self) -> io::Result<()> {
        if !self.spoilt {
            self.sync()?;
        }
        let (file, path) = new_segment(&self.directory, self.last + 1, self.synced)?;
        // A segment without groups has the name of its successor.
        self.segments.retain(|(_, old)| *old != path);
        self.segments.push((self.last + 1, path));
        (self.file, self.length, self.spoilt) = (file, SEGMENT_HEADER as u64, false);
        Ok(())
    }

    /// Deletes segments that only hold groups up to `applied`.
    pub(super) fn forget(&mut self, applied: u64) {
        while self.segments.len() > 1 && self.segments[1].0 <= applied + 1 {
            let (_, path) = self.segments.remove(0);
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!("{}", files::failed("remove", &path, &error));
            }
        }
    }

    fn take_back(&mut self) {
        let length = self.length;
        if self.file.set_len(length).and_then(|()| self.file.seek(SeekFrom::Start(length))).is_err() {
            self.spoilt = true;
        }
    }
}

// === files ===

fn segments_of(directory: &Path) -> Result<Vec<(u64, PathBuf)>, String> {
    let mut segments = Vec::new();
    let entries = std::fs::read_dir(directory).map_err(|error| files::failed("read", directory, &error))?;
    for entry in entries {
        let path = entry.map_err(|error| files::failed("read", directory, &error))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(digits) = name.strip_prefix("log-") else { continue };
        let Ok(named) = u64::from_str_radix(digits, 16) else { continue };
        if header_of(&path)?.first != named {
            return Err(corrupt(&path, 0, "its name and its beginning differ"));
        }
        segments.push((named, path));
    }
    segments.sort();
    Ok(segments)
}

fn new_segment(directory: &Path, first: u64, synced: u64) -> io::Result<(File, PathBuf)> {
    let mut header = Vec::with_capacity(SEGMENT_HEADER);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(&first.to_le_bytes());
    header.extend_from_slice(&synced.to_le_bytes());
    header.extend_from_slice(&xxh3_64_with_seed(&header, 0).to_le_bytes());
    let path = directory.join(format!("log-{first:016x}"));
    let file = files::create_whole(&path, &header)?;
    Ok((file, path))
}

struct SegmentHeader {
    first: u64,
    synced: u64,
}

fn header_of(path: &Path) -> Result<SegmentHeader, String> {
    use std::io::Read;
    let mut header = [0; SEGMENT_HEADER];
    File::open(path)
        .and_then(|mut file| file.read_exact(&mut header))
        .map_err(|error| files::failed("read", path, &error))?;
    if !header.starts_with(MAGIC) {
        return Err(corrupt(path, 0, "this is no log, or one of another version of the engine"));
    }
    if number_at(&header, 24) != xxh3_64_with_seed(&header[..24], 0) {
        return Err(corrupt(path, 0, "its beginning is damaged"));
    }
    Ok(SegmentHeader { first: number_at(&header, 8), synced: number_at(&header, 16) })
}

fn corrupt(path: &Path, offset: u64, what: &str) -> String {
    format!(
        "the store is damaged: {} at byte {offset}: {what}; nothing has been changed. Restore the directory from a \
         backup, or move it away to begin anew",
        path.display()
    )
}

// === groups ===

fn encode_group<'a>(out: &mut Vec<u8>, number: u64, synced: u64, operations: impl Iterator<Item = &'a Operation>) {
    out.resize(GROUP_HEADER, 0);
    let mut count = 0u32;
    for operation in operations {
        count += 1;
        let (kind, key, value) = match operation {
            Operation::Put(key, value) => (1, key, &**value),
            Operation::Insert(key, value) => (2, key, &**value),
            Operation::Delete(key) => (3, key, &[][..]),
        };
        out.push(kind);
        out.extend_from_slice(&(key.len() as u32).to_le_bytes());
        out.extend_from_slice(&(value.len() as u32).to_le_bytes());
        out.extend_from_slice(key);
        out.extend_from_slice(value);
    }
    let length = (out.len() - GROUP_HEADER) as u32;
    out[0..4].copy_from_slice(&length.to_le_bytes());
    out[4..8].copy_from_slice(&count.to_le_bytes());
    out[8..16].copy_from_slice(&number.to_le_bytes());
    out[16..24].copy_from_slice(&synced.to_le_bytes());
    let checksum = checksum(&out[..24], &out[GROUP_HEADER..]);
    out[24..32].copy_from_slice(&checksum.to_le_bytes());
}

fn checksum(header: &[u8], operations: &[u8]) -> u64 {
    xxh3_64_with_seed(operations, xxh3_64_with_seed(header, 0))
}

struct Group<'a> {
    number: u64,
    synced: u64,
    count: u32,
    operations: &'a [u8],
    bytes: usize,
}

/// The group that begins here, if it is whole.
fn group_at(text: &[u8]) -> Option<Group<'_>> {
    let header = text.get(..GROUP_HEADER)?;
    let length = length_at(header, 0);
    let operations = text.get(GROUP_HEADER..GROUP_HEADER + length)?;
    if number_at(header, 24) != checksum(&header[..24], operations) {
        return None;
    }
    let (number, synced) = (number_at(header, 8), number_at(header, 16));
    Some(Group { number, synced, count: length_at(header, 4) as u32, operations, bytes: GROUP_HEADER + length })
}

struct SegmentRead {
    /// Number of the last whole group.
    last: u64,
    /// Bytes up to its end.
    length: u64,
}

/// Hands over the groups of a segment up to number `limit`.
fn read_segment(
    path: &Path,
    text: &[u8],
    first: u64,
    limit: u64,
    mut each: impl FnMut(u64, Vec<Operation>),
) -> Result<SegmentRead, String> {
    let mut at = SEGMENT_HEADER;
    let mut expected = first;
    while expected <= limit
        && let Some(group) = group_at(&text[at..]).filter(|group| group.number == expected)
    {
        let operations =
            decode(group.operations, group.count).ok_or_else(|| corrupt(path, at as u64, "a change makes no sense"))?;
        each(expected, operations);
        at += group.bytes;
        expected += 1;
    }
    if expected <= limit && at < text.len() {
        refuse_hole(path, text, at, expected, limit)?;
    }
    Ok(SegmentRead { last: expected - 1, length: at as u64 })
}

/// A later group that was written when the missing one was already safe proves damage.
fn refuse_hole(path: &Path, text: &[u8], at: usize, expected: u64, limit: u64) -> Result<(), String> {
    for later in at + 1..text.len().saturating_sub(GROUP_HEADER) {
        let number = number_at(&text[later..], 8);
        // Cheap tests first: this looks at every byte.
        if number > expected
            && number <= limit
            && number - expected <= text.len() as u64
            && number_at(&text[later..], 16) >= expected
            && group_at(&text[later..]).is_some_and(|group| group.synced >= expected)
        {
            return Err(corrupt(path, at as u64, "a change that was on disk is unreadable"));
        }
    }
    Ok(())
}

fn decode(mut text: &[u8], count: u32) -> Option<Vec<Operation>> {
    let mut operations = Vec::with_capacity((count as usize).min(text.len()));
    for _ in 0..count {
        let header = text.get(..OPERATION_HEADER)?;
        let (key_bytes, value_bytes) = (length_at(header, 1), length_at(header, 5));
        let kind = header[0];
        text = &text[OPERATION_HEADER..];
        let key = text.get(..key_bytes)?.to_vec();
        let value = text.get(key_bytes..key_bytes + value_bytes)?.to_vec();
        text = &text[key_bytes + value_bytes..];
        operations.push(match kind {
            1 => Operation::Put(key, value),
            2 => Operation::Insert(key, value),
            3 => Operation::Delete(key),
            _ => return None,
        });
    }
    text.is_empty().then_some(operations)
}

fn number_at(text: &[u8], at: usize) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&text[at..at + 8]);
    u64::from_le_bytes(bytes)
}

fn length_at(text: &[u8], at: usize) -> usize {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&text[at..at + 4]);
    u32::from_le_bytes(bytes) as usize
}
