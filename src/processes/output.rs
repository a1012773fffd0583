//! Output of processes: kept in files of bounded size, repeated on the console, read back from the end.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};

/// Size at which a file is put aside.
const FILE_BYTES_MAX: u64 = 20 << 20;
/// How many files that were put aside are kept: `stdout.log.1`, the newest, to `stdout.log.3`.
const KEPT: u32 = 3;
/// A longer line is taken apart.
const LINE_BYTES_MAX: u64 = 64 << 10;
/// How much of the end of a file is read for its last lines.
const TAIL_BYTES_MAX: u64 = 1 << 20;

/// A file that grows to [`FILE_BYTES_MAX`] and then starts over.
#[derive(Debug)]
pub struct RotatingFile {
    path: PathBuf,
    file: File,
    bytes: u64,
    bytes_max: u64,
}

impl RotatingFile {
    /// Opens it for appending; `fresh` empties it first.
    pub fn open(path: &Path, fresh: bool) -> io::Result<RotatingFile> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        let file = append(path)?;
        if fresh {
            file.set_len(0)?;
        }
        let bytes = file.metadata()?.len();
        Ok(RotatingFile { path: path.to_owned(), file, bytes, bytes_max: FILE_BYTES_MAX })
    }

    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.bytes + bytes.len() as u64 > self.bytes_max && self.bytes > 0 {
            self.rotate()?;
        }
        self.file.write_all(bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let numbered = |number: u32| PathBuf::from(format!("{}.{number}", self.path.display()));
        for number in (1..KEPT).rev() {
            let _ = fs::rename(numbered(number), numbered(number + 1));
        }
        fs::rename(&self.path, numbered(1))?;
        self.file = append(&self.path)?;
        self.bytes = 0;
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// Where the lines of a stream go.
#[derive(Debug)]
pub enum Sink {
    /// Into a file, and to the log under the worker's name.
    File(RotatingFile, String),
    /// To the engine's own standard output, with this in front of each line.
    Prefixed(String),
}

/// Copies a stream line by line until it ends.
pub async fn copy(stream: impl AsyncRead + Unpin, mut sink: Sink) {
    use tokio::io::AsyncReadExt;
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if line.last() != Some(&b'\n') {
            line.push(b'\n');
        }
        match &mut sink {
            Sink::File(file, name) => {
                // A full disk must not stop the worker; its lines are still on the console.
                let _ = file.write(&line);
                let text = String::from_utf8_lossy(&line);
                tracing::info!(target: "iii::worker_output", "[{name}] {}", plain(text.trim_end()));
            }
            Sink::Prefixed(prefix) => {
                let text = String::from_utf8_lossy(&line);
                let _ = io::stdout().lock().write_all(format!("[{prefix}] {text}").as_bytes());
            }
        }
    }
}

/// The last lines of a file, oldest first. No file, no lines.
pub fn tail(path: &Path, lines: usize) -> Vec<String> {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES_MAX)))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let Ok(bytes) = read() else { return Vec::new() };
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].iter().map(|line| (*line).to_owned()).collect()
}

/// Text without escape sequences and control characters.
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\u{1b}' if characters.next_if_eq(&'[').is_some() => {
                while characters.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
            }
            '\u{1b}' => {
                characters.next();
            }
            '\t' => out.push(c),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("iii-output-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        directory
    }

    // MW-21
    #[test]
    fn a_full_file_is_put_aside() {
        let directory = scratch("rotate");
        let path = directory.join("stdout.log");
        let mut file = RotatingFile::open(&path, true).expect("opens");
        file.bytes_max = 10;
        for number in 0..6 {
            file.write(format!("line {number}\n").as_bytes()).expect("writes");
        }
        let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap_or_default();
        assert_eq!(read("stdout.log"), "line 5\n");
        assert_eq!(read("stdout.log.1"), "line 4\n");
        assert_eq!(read("stdout.log.3"), "line 2\n");
        assert!(!directory.join("stdout.log.4").exists());
        drop(RotatingFile::open(&path, true).expect("opens"));
        assert_eq!(read("stdout.log"), "");
        fs::remove_dir_all(directory).expect("ours");
    }

    #[test]
    fn the_tail_is_the_last_lines() {
        let directory = scratch("tail");
        fs::create_dir_all(&directory).expect("writable");
        let path = directory.join("f");
        assert_eq!(tail(&path, 5), Vec::<String>::new());
        fs::write(&path, "a\nb\nc\nd").expect("writable");
        assert_eq!(tail(&path, 2), ["c", "d"]);
        assert_eq!(tail(&path, 9).len(), 4);
        fs::remove_dir_all(directory).expect("ours");
    }

    #[test]
    fn escapes_are_taken_out() {
        assert_eq!(plain("\u{1b}[31mred\u{1b}[0m\tx\u{7}"), "red\tx");
    }
}
