//! What providers and registrants are told of triggers (PROTO section 4.2).

use super::Binding;
use crate::registry::DEFAULT_NAMESPACE;
use crate::wire::encode::{Value, write_members};

/// The frame that tells a provider of a trigger. Namespaces are named only when they are not the default.
pub(super) fn delivery(binding: &Binding, provider_namespace: &str) -> Vec<u8> {
    let unusual = |namespace| if namespace == DEFAULT_NAMESPACE { Value::Absent } else { Value::Text(namespace) };
    let mut text = Vec::new();
    write_members(
        &mut text,
        "registertrigger",
        &[
            ("id", Value::Text(&binding.id)),
            ("trigger_type", Value::Text(&binding.trigger_type)),
            ("function_id", Value::Text(&binding.function_id)),
            ("config", Value::Raw(&binding.config)),
            ("metadata", Value::raw_optional(binding.metadata.as_deref())),
            ("namespace", unusual(&*binding.namespace)),
            ("trigger_namespace", unusual(provider_namespace)),
        ],
    );
    text
}

/// The frame that tells a registrant that its trigger was refused.
pub fn refusal(binding: &Binding, error: Value<'_>) -> Vec<u8> {
    let mut text = Vec::new();
    write_members(
        &mut text,
        "triggerregistrationresult",
        &[
            ("id", Value::Text(&binding.id)),
            ("trigger_type", Value::Text(&binding.trigger_type)),
            ("function_id", Value::Text(&binding.function_id)),
            ("error", error),
        ],
    );
    text
}

/// The frame that tells a provider that a trigger has ended.
pub(super) fn ending(binding: &Binding) -> Vec<u8> {
    let mut text = Vec::new();
    let members = [("id", Value::Text(&binding.id)), ("trigger_type", Value::Text(&binding.trigger_type))];
    write_members(&mut text, "unregistertrigger", &members);
    text
}
