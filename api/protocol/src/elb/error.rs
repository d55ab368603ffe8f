//! What ELBv2 calls its refusals.

use std::fmt::Display;

macro_rules! codes {
    ($($code:ident),* $(,)?) => {
        /// The codes of ELBv2's errors, as its model names them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the names are the model's and say it all")]
        pub enum ElbCode { $($code,)* }

        impl ElbCode {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$code,)*];

            /// The code as it is written.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$code => stringify!($code),)* }
            }

            /// The name of the exception in the model.
            #[must_use]
            pub fn exception(self) -> &'static str {
                match self { $(Self::$code => concat!(stringify!($code), "Exception"),)* }
            }
        }
    };
}

codes! {
    CertificateNotFound,
    DuplicateListener,
    DuplicateLoadBalancerName,
    DuplicateTagKeys,
    DuplicateTargetGroupName,
    DuplicateTrustStoreName,
    IncompatibleProtocols,
    InvalidCaCertificatesBundle,
    CaCertificatesBundleNotFound,
    InvalidConfigurationRequest,
    InvalidLoadBalancerAction,
    InvalidTarget,
    ListenerNotFound,
    LoadBalancerNotFound,
    OperationNotPermitted,
    PriorityInUse,
    ResourceInUse,
    ResourceNotFound,
    RuleNotFound,
    SSLPolicyNotFound,
    TargetGroupAssociationLimit,
    TargetGroupNotFound,
    TooManyActions,
    TooManyCertificates,
    TooManyListeners,
    TooManyLoadBalancers,
    TooManyRules,
    TooManyTags,
    TooManyTargetGroups,
    TooManyTargets,
    TooManyTrustStores,
    TrustStoreInUse,
    TrustStoreNotFound,
    UnsupportedProtocol,
}

impl ElbCode {
    /// The error with this text.
    #[must_use]
    pub fn because(self, text: impl Display) -> ElbError {
        ElbError { code: self, message: text.to_string() }
    }
}

/// One of ELBv2's errors.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ElbError {
    /// What it is called.
    pub code: ElbCode,
    /// What was wrong.
    pub message: String,
}
