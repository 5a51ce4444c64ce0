//! How errors present themselves to metrics, events and the retry decision.
//!
//! Categories are static and few, because they become metric labels; they never hold an object's name.

/// An error that states its category and whether retrying without a change is pointless.
pub trait Categorised {
    /// A short static word for metrics and events, such as `conflict` or `invalid-spec`.
    fn category(&self) -> &'static str;

    /// Whether only a change of the object (not time) can help; such an error is not retried with backoff.
    fn is_terminal(&self) -> bool {
        false
    }
}

impl Categorised for std::convert::Infallible {
    fn category(&self) -> &'static str {
        match *self {}
    }
}

impl Categorised for kube::Error {
    fn category(&self) -> &'static str {
        api_category(self)
    }
}

/// Maps a client error to a static category.
pub fn api_category(error: &kube::Error) -> &'static str {
    match error {
        kube::Error::Api(status) => status_category(status),
        kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_) => "network",
        kube::Error::SerdeError(_) | kube::Error::FromUtf8(_) => "decode",
        kube::Error::Auth(_) => "unauthorized",
        kube::Error::RustlsTls(_) | kube::Error::TlsRequired => "tls",
        kube::Error::Discovery(_) => "discovery",
        kube::Error::InferConfig(_) | kube::Error::InferKubeconfig(_) => "config",
        _ => "client",
    }
}

fn status_category(status: &kube::core::Status) -> &'static str {
    match (status.reason.as_str(), status.code) {
        ("AlreadyExists", _) => "already-exists",
        ("Conflict", _) | (_, 409) => "conflict",
        ("NotFound", _) | (_, 404) => "not-found",
        ("Invalid", _) | (_, 422) => "invalid",
        ("Unauthorized", _) | (_, 401) => "unauthorized",
        ("Forbidden", _) | (_, 403) => "forbidden",
        ("Timeout" | "ServerTimeout", _) | (_, 504) => "timeout",
        ("TooManyRequests", _) | (_, 429) => "throttled",
        (_, 400..=499) => "bad-request",
        _ => "server",
    }
}

/// Joins an error and its sources into one line, for logs and condition messages.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        // Several libraries repeat their source's text in their own.
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        source = cause.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    fn api(code: u16, reason: &str) -> kube::Error {
        kube::Error::Api(Status::failure("m", reason).with_code(code).boxed())
    }

    #[test]
    fn categories_follow_reason_then_code() {
        assert_eq!(api_category(&api(409, "AlreadyExists")), "already-exists");
        assert_eq!(api_category(&api(409, "")), "conflict");
        assert_eq!(api_category(&api(404, "NotFound")), "not-found");
        assert_eq!(api_category(&api(422, "Invalid")), "invalid");
        assert_eq!(api_category(&api(429, "TooManyRequests")), "throttled");
        assert_eq!(api_category(&api(418, "Teapot")), "bad-request");
        assert_eq!(api_category(&api(500, "InternalError")), "server");
    }

    #[derive(Debug, thiserror::Error)]
    #[error("cannot apply")]
    struct Outer(#[source] kube::Error);

    #[test]
    fn chain_names_each_cause_once() {
        let line = chain(&Outer(api(409, "Conflict")));
        assert!(line.starts_with("cannot apply: ApiError: m: Conflict"), "{line}");
        assert_eq!(line.matches("cannot apply").count(), 1);
    }
}
