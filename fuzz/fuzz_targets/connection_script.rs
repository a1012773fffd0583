//! Three connections say anything at all to two shards. The first byte of a piece picks the connection (two bits) and
//! whether the rest is raw bytes, a text message, an end or a while of waiting; the second is its length.
#![no_main]

use iii_shards::settings::Settings;
use iii_shards::sim::client::upgrade_request;
use iii_shards::sim::scenario::Scenario;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|script: &[u8]| {
    let settings = Settings { shards: 2, outbox_bytes_max: 64 << 10, ..Settings::default() };
    let mut scenario = Scenario::with(settings);
    let raw = scenario.world.connect(0);
    let peers = [scenario.connect(0), scenario.worker(1, "default", &["f"]), scenario.connect(1)];
    let mut rest = script;
    while let [what, length, tail @ ..] = rest {
        let (piece, tail) = tail.split_at(usize::from(*length).min(tail.len()));
        rest = tail;
        let peer = peers[usize::from(what & 3) % 3];
        match what >> 2 & 3 {
            0 => scenario.world.send(peer.0, piece),
            1 => scenario.say(peer, &String::from_utf8_lossy(piece)),
            2 if piece.is_empty() => scenario.reset(peer),
            2 => scenario.world.send(raw, if *length == 1 { upgrade_request("/") } else { piece.to_vec() }.as_slice()),
            _ => scenario.advance(u64::from(*length) * 10),
        }
        scenario.settle();
    }
    scenario.assert_nothing_left();
});
