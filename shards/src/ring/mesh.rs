//! The full mesh: a ring from every thread to every other, and each thread's signal.

use super::signal::{Signal, peers};
use super::spsc::{Consumer, Full, Producer, ring};
use std::sync::Arc;

/// One thread's end of the mesh.
pub struct Port<T> {
    me: usize,
    to: Vec<Option<Producer<T>>>,
    from: Vec<Option<Consumer<T>>>,
    signals: Arc<[Signal]>,
}

/// Connects `count` threads. Port `i` belongs to thread `i`.
pub fn mesh<T>(count: usize, slots: usize) -> Vec<Port<T>> {
    let signals: Arc<[Signal]> = (0..count).map(|_| Signal::default()).collect();
    let mut ports: Vec<Port<T>> = (0..count)
        .map(|me| Port {
            me,
            to: (0..count).map(|_| None).collect(),
            from: (0..count).map(|_| None).collect(),
            signals: signals.clone(),
        })
        .collect();
    for from in 0..count {
        for to in (0..count).filter(|to| *to != from) {
            let (producer, consumer) = ring(slots);
            ports[from].to[to] = Some(producer);
            ports[to].from[from] = Some(consumer);
        }
    }
    ports
}

impl<T> Port<T> {
    /// Sends to a peer. `Ok(true)` = the caller must wake it. A full ring gives the value back.
    #[inline]
    pub fn try_send(&mut self, peer: usize, value: T) -> Result<bool, Full<T>> {
        let producer = self.to[peer].as_mut().expect("nobody sends to itself through the mesh");
        producer.try_push(value)?;
        Ok(self.signals[peer].notify(self.me))
    }

    /// Receives everything that has come, peer by peer.
    #[inline]
    pub fn receive(&mut self, mut each: impl FnMut(usize, T)) {
        for peer in peers(self.signals[self.me].take()) {
            if let Some(Some(consumer)) = self.from.get_mut(peer) {
                while let Some(value) = consumer.pop() {
                    each(peer, value);
                }
            }
        }
    }

    /// This thread's signal.
    pub fn signal(&self) -> &Signal {
        &self.signals[self.me]
    }

    /// All signals, by thread.
    pub fn signals(&self) -> Arc<[Signal]> {
        self.signals.clone()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_pair_is_connected_in_order() {
        let mut ports = mesh::<(usize, usize)>(5, 8);
        for (from, port) in ports.iter_mut().enumerate() {
            for to in (0..5).filter(|to| *to != from) {
                for number in 0..3 {
                    assert_eq!(port.try_send(to, (from, number)), Ok(false));
                }
            }
        }
        for (to, port) in ports.iter_mut().enumerate() {
            let mut seen = Vec::new();
            port.receive(|peer, (from, number)| {
                assert_eq!(peer, from);
                seen.push((from, number));
            });
            let expected: Vec<_> =
                (0..5).filter(|from| *from != to).flat_map(|from| (0..3).map(move |number| (from, number))).collect();
            assert_eq!(seen, expected);
        }
    }
}
