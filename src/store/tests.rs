//! A store from outside: what was acknowledged is there after any end, and nothing damaged is touched.

#![allow(clippy::disallowed_methods, reason = "no shard runs in a test's threads")]

use super::{Batch, Durability, Store, StoreError, Table};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;

type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// A directory of its own for each test, gone afterwards.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Directory {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("iii-store-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        Directory(path)
    }

    /// The state a crash at this moment would leave.
    fn image(&self) -> Directory {
        let image = Directory::new();
        std::fs::create_dir_all(&image.0).expect("directory");
        for entry in std::fs::read_dir(&self.0).expect("directory").flatten() {
            std::fs::copy(entry.path(), image.0.join(entry.file_name())).expect("copy");
        }
        image
    }

    fn newest_log(&self) -> PathBuf {
        let entries = std::fs::read_dir(&self.0).expect("directory").flatten().map(|entry| entry.path());
        entries.filter(|path| path.to_string_lossy().contains("log-")).max().expect("a log")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn write(store: &Store, batch: Batch, durability: Durability) -> Result<(), StoreError> {
    let (sender, receiver) = sync_channel(1);
    store.write(batch, durability, move |outcome| drop(sender.send(outcome)));
    receiver.recv().expect("an answer")
}

fn put(store: &Store, key: &str, value: &str) {
    let mut batch = Batch::new();
    batch.put(Table::STATE, key.as_bytes(), value);
    assert_eq!(write(store, batch, Durability::Full), Ok(()));
}

fn all(store: &Store, prefix: &[u8]) -> Model {
    let mut model = Model::new();
    store
        .load(Table::STATE, prefix, |key, value| {
            let before = model.insert(key.to_vec(), value.to_vec());
            assert_eq!(before, None, "a key is handed over once");
        })
        .expect("readable");
    model
}

fn text(model: &Model) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    model.iter().map(|(key, value)| format!("{}={};", text(key), text(value))).collect()
}

#[test]
fn what_was_acknowledged_outlives_a_crash() {
    let directory = Directory::new();
    let store = Store::open(&directory.0).expect("opens");
    put(&store, "a", "1");
    put(&store, "b", "2");
    let mut batch = Batch::new();
    batch.delete(Table::STATE, b"a").put(Table::STATE, b"c", "3").put(Table::STREAM, b"a", "other table");
    assert_eq!(write(&store, batch, Durability::Relaxed), Ok(()));
    let image = directory.image();
    let recovered = Store::open(&image.0).expect("opens");
    assert_eq!(text(&all(&recovered, b"")), "b=2;c=3;");
    recovered.close().expect("closes");
    store.close().expect("closes");
    assert_eq!(write(&store, Batch::new(), Durability::Full), Err(StoreError::Closed));
    let again = Store::open(&directory.0).expect("opens again");
    assert_eq!(text(&all(&again, b"")), "b=2;c=3;");
    assert_eq!(text(&all(&again, b"c")), "c=3;");
}

#[test]
fn two_workers_share_a_store_and_a_second_engine_is_refused() {
    let directory = Directory::new();
    let store = Store::open(&directory.0).expect("opens");
    put(&store, "a", "1");
    let same = Store::open(&directory.0.join(".")).expect("opens");
    assert_eq!(text(&all(&same, b"")), "a=1;");
    // What another process would meet.
    let error = super::base::Base::open(&directory.0).err().expect("refused");
    assert!(error.contains("in use by another engine") && error.contains(&*directory.0.to_string_lossy()), "{error}");
}

/// Random batches against a map, with merges (the limits are small in tests), crashes and reopenings in between.
#[test]
fn a_store_is_a_map_whatever_happens() {
    for seed in 0..3 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut directory = Directory::new();
        let mut store = Store::open(&directory.0).expect("opens");
        let mut model = Model::new();
        let mut fresh = 0;
        for step in 0..300 {
            let mut batch = Batch::new();
            for _ in 0..random.usize(1..8) {
                let key = format!("k{}", random.u8(..40)).into_bytes();
                match random.u8(..4) {
                    0 => {
                        batch.delete(Table::STATE, &key);
                        model.remove(&key);
                    }
                    1 => {
                        fresh += 1;
                        let key = format!("fresh{fresh:06}").into_bytes();
                        let value = vec![b'v'; random.usize(..300)];
                        batch.insert(Table::STATE, &key, value.clone());
                        model.insert(key, value);
                    }
                    2 if fresh > 0 => {
                        let key = format!("fresh{:06}", random.u32(1..=fresh)).into_bytes();
                        batch.delete(Table::STATE, &key);
                        model.remove(&key);
                    }
                    _ => {
                        let value = step.to_string().into_bytes();
                        batch.put(Table::STATE, &key, value.clone());
                        model.insert(key, value);
                    }
                }
            }
            let durability = if random.bool() { Durability::Full } else { Durability::Relaxed };
            assert_eq!(write(&store, batch, durability), Ok(()));
            if random.u8(..40) == 0 {
                assert_eq!(text(&all(&store, b"")), text(&model), "seed {seed} step {step}");
            }
            if random.u8(..60) == 0 {
                store.close().expect("closes");
                if random.bool() {
                    directory = directory.image();
                }
                store = Store::open(&directory.0).expect("opens");
            }
        }
        assert_eq!(text(&all(&store, b"")), text(&model), "seed {seed}");
        store.close().expect("closes");
    }
}

/// T14: a crash may leave any beginning of the log's last segment, and each of them opens.
#[test]
fn every_beginning_of_the_log_opens() {
    let directory = Directory::new();
    let store = Store::open(&directory.0).expect("opens");
    let mut expected = vec![(32, String::new())];
    for number in 0..4 {
        put(&store, &number.to_string(), "x");
        let length = std::fs::metadata(directory.newest_log()).expect("log").len();
        expected.push((length, text(&all(&store, b""))));
    }
    store.close().expect("closes");
    let whole = std::fs::read(directory.newest_log()).expect("log");
    for length in (32..=whole.len())
        .filter(|length| length % 3 == 0 || expected.iter().any(|(end, _)| end.abs_diff(*length as u64) <= 1))
    {
        for garbage in [&b""[..], &[0; 100]] {
            let image = directory.image();
            std::fs::write(image.newest_log(), [&whole[..length], garbage].concat()).expect("log");
            let store = Store::open(&image.0).expect("opens");
            let (_, model) = expected.iter().rev().find(|(end, _)| *end <= length as u64).expect("a state");
            assert_eq!(text(&all(&store, b"")), *model, "{length} bytes");
            put(&store, "later", "y");
            store.close().expect("closes");
            let store = Store::open(&image.0).expect("opens");
            assert_eq!(text(&all(&store, b"")), format!("{model}later=y;"), "{length} bytes");
            store.close().expect("closes");
        }
    }
}

fn refused(directory: &Path, what: &str) {
    let before: Vec<_> = contents(directory);
    let error = Store::open(directory).err().unwrap_or_else(|| panic!("{what}: opened"));
    assert!(error.contains("damaged") && !error.contains('\n'), "{what}: {error}");
    assert!(contents(directory) == before, "{what}: a file was changed");
}

fn contents(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(directory).expect("directory").flatten().map(|entry| entry.path());
    // The database marks its file as open; that is not for us to prevent.
    let entries =
        entries.filter(|path| !path.ends_with("store.redb") || path.metadata().is_ok_and(|file| file.len() < 100));
    let mut files: Vec<_> = entries.map(|path| (path.clone(), std::fs::read(&path).expect("file"))).collect();
    files.sort();
    files
}

#[test]
fn damage_is_an_error_and_nothing_is_overwritten() {
    let directory = Directory::new();
    let store = Store::open(&directory.0).expect("opens");
    for number in 0..5 {
        put(&store, &number.to_string(), "x");
    }
    store.close().expect("closes");
    let whole = std::fs::read(directory.newest_log()).expect("log");
    // Each group but the last is followed by one that says it was safe.
    let last = 32 + (whole.len() - 32) / 5 * 4;
    for at in (0..last).step_by(11) {
        let image = directory.image();
        let mut damaged = whole.clone();
        damaged[at] ^= 0x40;
        std::fs::write(image.newest_log(), damaged).expect("log");
        refused(&image.0, &format!("byte {at}"));
    }
    let image = directory.image();
    std::fs::write(image.0.join("store.redb"), b"not a database").expect("file");
    refused(&image.0, "another file");
    std::fs::remove_file(image.0.join("store.redb")).expect("file");
    refused(&image.0, "no file");
    let image = directory.image();
    std::fs::write(image.0.join("store.redb"), b"").expect("file");
    refused(&image.0, "an empty file");
}
