//! Every interleaving of the two-thread models: no loss, no duplicate, in order, no missed wake.
//!
//! Run with `RUSTFLAGS="--cfg loom" cargo test -p iii-shards --release --no-default-features --test ring_loom`.

#![cfg(loom)]

use iii_shards::ring::signal::Signal;
use iii_shards::ring::spsc::ring;
use loom::sync::Arc;
use loom::thread;

#[test]
fn values_cross_once_and_in_order() {
    loom::model(|| {
        let (mut producer, mut consumer) = ring::<usize>(2);
        let sender = thread::spawn(move || {
            let mut sent = 0;
            while sent < 3 {
                if producer.try_push(sent).is_ok() {
                    sent += 1;
                } else {
                    thread::yield_now();
                }
            }
        });
        let mut expected = 0;
        while expected < 3 {
            match consumer.pop() {
                Some(value) => {
                    assert_eq!(value, expected);
                    expected += 1;
                }
                None => thread::yield_now(),
            }
        }
        assert_eq!(consumer.pop(), None);
        sender.join().unwrap();
    });
}

#[test]
fn no_wake_is_missed() {
    loom::model(|| {
        let signal = Arc::new(Signal::default());
        let (mut producer, mut consumer) = ring::<usize>(2);
        let sender = {
            let signal = signal.clone();
            thread::spawn(move || {
                producer.try_push(7).unwrap();
                signal.notify(0)
            })
        };
        let slept = signal.prepare_sleep();
        let woken = sender.join().unwrap();
        // Either the sender saw the sleeper and wakes it, or the sleeper saw the bit and did not sleep.
        assert!(!slept || woken, "asleep with a value in the ring");
        let mask = signal.take();
        assert_eq!(mask[0], 1);
        assert_eq!(consumer.pop(), Some(7));
    });
}

#[test]
fn one_sleep_is_woken_once() {
    loom::model(|| {
        let signal = Arc::new(Signal::default());
        assert!(signal.prepare_sleep());
        let senders: Vec<_> = (0..2)
            .map(|peer| {
                let signal = signal.clone();
                thread::spawn(move || usize::from(signal.notify(peer)))
            })
            .collect();
        let wakes: usize = senders.into_iter().map(|sender| sender.join().unwrap()).sum();
        assert_eq!(wakes, 1);
    });
}
