//! Encoding what a call sends: the call to its provider and the answer to its caller.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use iii_shards::wire::encode::{CallResult, Invoke, Outcome, Payload};
use std::hint::black_box;
use uuid::Uuid;

fn encode(c: &mut Criterion) {
    let caller = Uuid::from_u128(9);
    for (name, payload_bytes) in [("250B", 100), ("17KiB", 17 << 10)] {
        let data = format!(r#"{{"note":"{}"}}"#, "x".repeat(payload_bytes));
        let invoke = Invoke {
            invocation_id: Some(Uuid::from_u128(7)),
            function_id: "orders::create",
            data: Payload { json: data.as_bytes(), caller: Some(&caller) },
            metadata: None,
            traceparent: None,
            baggage: None,
        };
        let result = CallResult {
            invocation_id: Uuid::from_u128(7),
            function_id: "orders::create",
            outcome: Outcome::Result(Some(data.as_bytes())),
            traceparent: None,
            baggage: None,
        };
        let mut out = Vec::new();
        invoke.write(&mut out);
        assert!(out.ends_with(b"\"_caller_worker_id\":\"00000000-0000-0000-0000-000000000009\"}}"));
        out.clear();
        result.write(&mut out);
        let text = &out[if payload_bytes > 125 { 4 } else { 4.min(out.len()) }..];
        let value: serde_json::Value = serde_json::from_slice(text).expect("one frame of JSON");
        assert_eq!(value["result"]["note"].as_str().map(str::len), Some(payload_bytes));

        let mut group = c.benchmark_group(format!("encode/{name}"));
        group.throughput(Throughput::Bytes(data.len() as u64));
        group.bench_function("invoke", |b| {
            b.iter(|| {
                out.clear();
                black_box(&invoke).write(&mut out);
                out.len()
            });
        });
        group.bench_function("result", |b| {
            b.iter(|| {
                out.clear();
                black_box(&result).write(&mut out);
                out.len()
            });
        });
        group.finish();
    }
}

criterion_group!(benches, encode);
criterion_main!(benches);
