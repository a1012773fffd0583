//! The enqueue action: a call that a queue keeps until it is run (QUEUE-30 to 38).
//!
//! It is a call of `engine::queue::enqueue`, which the built-in queue worker provides unless another worker does. The
//! engine makes the receipt, and the answer names the function that was meant.

use super::Shard;
use super::calls::{Refusal, echo_of, without_caller};
use super::mesh::Call;
use crate::connection::worker::{Echo, Pending};
use crate::ids::ConnectionId;
use crate::registry::DEFAULT_NAMESPACE;
use crate::wire::encode::{Invoke, Outcome, Payload, Value, write_object};
use crate::wire::envelope::Envelope;
use crate::wire::{codes, trace};
use uuid::Uuid;

/// Takes messages for queues.
const PROVIDER: &str = "engine::queue::enqueue";
const NO_PROVIDER: &str = "No queue provider is installed. Add the `iii-queue` worker to the configuration, or register a \
                           function `engine::queue::enqueue`.";

/// What is to be run later, and the queue that keeps it.
pub(super) struct Target<'a> {
    pub(super) queue: &'a str,
    pub(super) namespace: &'a str,
    pub(super) function_id: &'a str,
}

impl Shard {
    pub(super) fn enqueue(
        &mut self,
        id: ConnectionId,
        envelope: &Envelope<'_>,
        invocation_id: Option<Uuid>,
        target: &Target<'_>,
    ) -> Result<(), Refusal> {
        let invalid = |message: String| Refusal::new(codes::INVALID_MESSAGE, message);
        let traceparent = Envelope::string(envelope.members.traceparent, "traceparent").map_err(invalid)?;
        let baggage = Envelope::string(envelope.members.baggage, "baggage").map_err(invalid)?;
        let target_baggage = (traceparent.is_some() || baggage.is_some())
            .then(|| trace::baggage_for(target.function_id, baggage.as_deref().unwrap_or("")));
        let receipt = self.new_uuid();
        let data = without_caller(envelope.members.data.unwrap_or(b"null"));
        let text = |value| match value {
            Some(value) => Value::Text(value),
            None => Value::Raw(b"null"),
        };
        let receipt_text = receipt.to_string();
        let mut input = Vec::with_capacity(data.len() + 256);
        let namespace = match target.namespace {
            DEFAULT_NAMESPACE => Value::Absent,
            namespace => Value::Text(namespace),
        };
        write_object(
            &mut input,
            &[
                ("queue", Value::Text(target.queue)),
                ("function_id", Value::Text(target.function_id)),
                ("data", Value::Raw(&data)),
                ("messageReceiptId", Value::Text(&receipt_text)),
                ("traceparent", text(traceparent.as_deref())),
                ("baggage", text(target_baggage.as_deref())),
                ("namespace", namespace),
            ],
        );
        let call = Call {
            prefer: None,
            caller: id,
            retried: false,
            namespace: DEFAULT_NAMESPACE,
            invoke: Invoke {
                invocation_id,
                function_id: PROVIDER,
                data: Payload { json: &input, caller: None },
                metadata: None,
                traceparent: traceparent.as_deref().filter(|value| trace::is_traceparent(value)),
                baggage: target_baggage.as_deref(),
            },
        };
        let refuse = |refusal: Refusal| Refusal::new(codes::ENQUEUE_ERROR, reason(refusal.code, &refusal.message));
        let route = self.route(DEFAULT_NAMESPACE, PROVIDER).map_err(refuse)?;
        if let Some(invocation_id) = invocation_id {
            let trace = echo_of(envelope);
            let (traceparent, baggage) = trace.map_or((None, None), |echo| (echo.traceparent, echo.baggage));
            let function_id = Some(target.function_id.into());
            let echo = Some(Box::new(Echo { traceparent, baggage, function_id, receipt: Some(receipt) }));
            self.track(id, invocation_id, Pending { route: route.clone(), provider: None, retried: false, echo });
        }
        self.dispatch(&route, &call).map_err(|refusal| {
            if let Some(invocation_id) = invocation_id {
                self.untrack(id, invocation_id);
            }
            refuse(refusal)
        })
    }

    /// The queue has taken a message or refused it.
    pub(super) fn finish_enqueue(
        &mut self,
        caller: ConnectionId,
        invocation_id: Uuid,
        pending: &Pending,
        receipt: Uuid,
        outcome: &Outcome<'_>,
    ) {
        let echo = pending.echo.as_deref();
        let function_id = echo.and_then(|echo| echo.function_id.as_deref()).unwrap_or_default();
        match outcome {
            Outcome::Result(_) => {
                let result = format!(r#"{{"messageReceiptId":"{receipt}"}}"#);
                let outcome = Outcome::Result(Some(result.as_bytes()));
                self.answer_echoing(caller, invocation_id, function_id, &outcome, echo);
            }
            Outcome::Error { code, message, .. } => {
                let message = reason(code, message);
                let outcome = Outcome::Error { code: codes::ENQUEUE_ERROR, message: &message, stacktrace: None };
                self.answer_echoing(caller, invocation_id, function_id, &outcome, echo);
            }
        }
    }
}

/// QUEUE-32.
fn reason(code: &str, message: &str) -> String {
    match code {
        codes::ENQUEUE_ERROR => message.to_owned(),
        codes::FUNCTION_NOT_FOUND if message.contains(PROVIDER) => NO_PROVIDER.to_owned(),
        _ => format!("{code}: {message}"),
    }
}
