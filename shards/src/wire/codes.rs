//! Error codes of the protocol (PROTO-80). Clients match on them: adding one is a protocol change.

/// The function is not registered.
pub const FUNCTION_NOT_FOUND: &str = "function_not_found";
/// The provider left while the call was running.
pub const INVOCATION_STOPPED: &str = "invocation_stopped";
/// The engine failed to run the call.
pub const INVOCATION_ERROR: &str = "invocation_error";
/// The call took longer than the configured limit.
pub const INVOCATION_TIMEOUT: &str = "invocation_timeout";
/// The queue did not take the message.
pub const ENQUEUE_ERROR: &str = "enqueue_error";
/// A namespace was named and left blank.
pub const INVALID_NAMESPACE: &str = "INVALID_NAMESPACE";
/// The session may not do this.
pub const FORBIDDEN: &str = "FORBIDDEN";
/// The payload does not fit the engine function.
pub const DESERIALIZATION_ERROR: &str = "deserialization_error";
/// The message does not fit what the receiver can take.
pub const PAYLOAD_TOO_LARGE: &str = "payload_too_large";
/// The provider reads slower than it is called.
pub const WORKER_OVERLOADED: &str = "worker_overloaded";
/// The frame cannot be understood.
pub const INVALID_MESSAGE: &str = "invalid_message";
/// The provider's result is not JSON.
pub const INVALID_RESULT: &str = "invalid_result";
/// An error without a code.
pub const UNKNOWN: &str = "UNKNOWN";
/// Another worker owns the function (the only non-fatal code of `registrationrejected`).
pub const FUNCTION_NAMESPACE_CONFLICT: &str = "FUNCTION_NAMESPACE_CONFLICT";
/// Another worker owns the name.
pub const WORKER_NAMESPACE_CONFLICT: &str = "WORKER_NAMESPACE_CONFLICT";
/// A trigger could not be registered.
pub const TRIGGER_REGISTRATION_FAILED: &str = "trigger_registration_failed";
/// What an engine function was asked about does not exist.
pub const NOT_FOUND: &str = "NOT_FOUND";
/// The arguments of an engine function contradict each other.
pub const INVALID_ARGUMENTS: &str = "INVALID_ARGUMENTS";
/// A trigger's provider failed to end it; it is gone anyway.
pub const UNREGISTER_FAILED: &str = "unregister_failed";

/// Message for a blank namespace on a call or a registration.
pub const BLANK_NAMESPACE: &str =
    "`namespace` is empty: it was named and left blank. Give it a name, or omit it to use `default`.";
/// Message of [`INVOCATION_STOPPED`].
pub const INVOCATION_STOPPED_MESSAGE: &str = "Invocation stopped";
