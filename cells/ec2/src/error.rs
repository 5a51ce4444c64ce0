//! What EC2's errors mean to whoever asked.

use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use skep_builder::ProviderError;

/// Codes that say that there is no more of something. Source: EC2's list of error codes.
const EXHAUSTED: &[&str] = &[
    "InsufficientInstanceCapacity",
    "InsufficientFreeAddressesInSubnet",
    "InsufficientAddressCapacity",
    "InsufficientCapacity",
    "InsufficientReservedInstanceCapacity",
    "MaxSpotInstanceCountExceeded",
    "Unsupported",
];
/// Codes of what passes by itself. Source: the same list; what was just made may not be known everywhere yet.
const PASSING: &[&str] = &[
    "RequestLimitExceeded",
    "Throttling",
    "ThrottlingException",
    "RequestThrottled",
    "InternalError",
    "InternalFailure",
    "ServerInternal",
    "Unavailable",
    "ServiceUnavailable",
    "DependencyViolation",
    "IncorrectState",
    "IncorrectInstanceState",
    "InvalidPermission.Duplicate",
    "InvalidGroup.Duplicate",
    "InvalidNetworkInterface.InUse",
    "InvalidSubnet.Conflict",
    "InvalidLaunchTemplateName.AlreadyExistsException",
    "Resource.AlreadyAssociated",
    "RouteAlreadyExists",
];

/// Names what was tried with an error of EC2.
pub(crate) fn failed<E>(what: &str, error: SdkError<E>) -> ProviderError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let code = error.code().unwrap_or_default().to_owned();
    let message = error.message().unwrap_or_default().to_owned();
    let status = error.raw_response().map_or(0, |answer| answer.status().as_u16());
    let is_silent = !matches!(error, SdkError::ServiceError(_));
    let what = what.to_owned();
    if EXHAUSTED.contains(&code.as_str()) || code.ends_with("LimitExceeded") && code != "RequestLimitExceeded"
    {
        return ProviderError::Exhausted {
            resource: code,
            message,
        };
    }
    let source: Box<dyn std::error::Error + Send + Sync> = Box::new(error);
    let is_new = code.ends_with(".NotFound");
    if is_silent || is_new || status >= 500 || PASSING.contains(&code.as_str()) {
        return ProviderError::Transient {
            what,
            after: None,
            source,
        };
    }
    ProviderError::Refused { what, source }
}

/// Whether EC2 says that what shall go is not there.
pub(crate) fn is_gone<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    let code = error.code().unwrap_or_default();
    code.ends_with(".NotFound") || code.ends_with("NotFoundException") || code == "Gateway.NotAttached"
}

/// An answer that lacks what it must have.
pub(crate) fn lacking(what: &str) -> ProviderError {
    ProviderError::Transient {
        what: what.to_owned(),
        after: None,
        source: "EC2's answer has no id".into(),
    }
}
