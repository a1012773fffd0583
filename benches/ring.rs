//! Rings: a value through one ring, and through a mesh with its signal, on one thread.

use criterion::{Criterion, criterion_group, criterion_main};
use iii_shards::ring::{mesh::mesh, spsc::ring};
use std::hint::black_box;

fn rings(c: &mut Criterion) {
    let (mut producer, mut consumer) = ring::<[u64; 8]>(64);
    assert!(producer.try_push([7; 8]).is_ok());
    assert_eq!(consumer.pop(), Some([7; 8]));
    c.bench_function("ring/spsc_push_pop_64B", |b| {
        b.iter(|| {
            let _ = producer.try_push(black_box([7; 8]));
            consumer.pop()
        });
    });

    let mut ports = mesh::<u64>(4, 64);
    assert!(ports[0].try_send(1, 5).is_ok());
    let mut got = None;
    ports[1].receive(|peer, value| got = Some((peer, value)));
    assert_eq!(got, Some((0, 5)));
    c.bench_function("ring/mesh_send_receive", |b| {
        b.iter(|| {
            let _ = ports[0].try_send(1, black_box(5));
            let mut sum = 0;
            ports[1].receive(|_, value| sum += value);
            sum
        });
    });
}

criterion_group!(benches, rings);
criterion_main!(benches);
