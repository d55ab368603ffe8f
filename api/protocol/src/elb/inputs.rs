//! The shapes of the requests of ELBv2's actions, as its model has them.

use crate::shape::{Shape, shape};

type NamedShape = (&'static str, Shape);

/// The shape of the request of an action; None for one that is not answered here.
#[must_use]
pub fn of(operation: &str) -> Option<&'static Shape> {
    ACTIONS.iter().find(|(name, _)| *name == operation).map(|(_, shape)| shape)
}

/// Every action that is answered here.
pub fn operations() -> impl Iterator<Item = &'static str> {
    ACTIONS.iter().map(|(name, _)| *name)
}

macro_rules! named {
    ($($name:ident = $shape:tt;)*) => { $(const $name: Shape = shape!($shape);)* };
}

macro_rules! actions {
    ($($name:ident $shape:tt)*) => {
        const ACTIONS: &[NamedShape] = &[$((stringify!($name), shape!($shape)),)*];
    };
}

named! {
    TAGS = [{ Key: text, Value: text }];
    ATTRIBUTES = [{ Key: text, Value: text }];
    PROTOCOL = ("HTTP" "HTTPS" "TCP" "TLS" "UDP" "TCP_UDP" "GENEVE" "QUIC" "TCP_QUIC");
    IP_ADDRESS_TYPE = ("ipv4" "dualstack" "dualstack-without-public-ipv4");
    SUBNET_MAPPINGS = [{
        SubnetId: text, AllocationId: text, PrivateIPv4Address: text, IPv6Address: text, SourceNatIpv6Prefix: text,
    }];
    MATCHER = { HttpCode: text, GrpcCode: text };
    CERTIFICATES = [{ CertificateArn: text, IsDefault: flag }];
    OIDC = {
        Issuer: text, AuthorizationEndpoint: text, TokenEndpoint: text, UserInfoEndpoint: text, ClientId: text,
    };
    ACTIONS_OF_A_RULE = [{
        Type: ("forward" "authenticate-oidc" "authenticate-cognito" "redirect" "fixed-response" "jwt-validation"),
        TargetGroupArn: text,
        Order: int,
        AuthenticateOidcConfig: OIDC,
        RedirectConfig: { Protocol: text, Port: text, Host: text, Path: text, Query: text, StatusCode: ("HTTP_301" "HTTP_302") },
        FixedResponseConfig: { MessageBody: text, StatusCode: text, ContentType: text },
        ForwardConfig: {
            TargetGroups: [{ TargetGroupArn: text, Weight: int }],
            TargetGroupStickinessConfig: { Enabled: flag, DurationSeconds: int },
        },
    }];
    TEXTS = { Values: [text], RegexValues: [text] };
    CONDITIONS = [{
        Field: text, Values: [text], RegexValues: [text], HostHeaderConfig: TEXTS, PathPatternConfig: TEXTS,
        HttpHeaderConfig: { HttpHeaderName: text, Values: [text], RegexValues: [text] },
        QueryStringConfig: { Values: [{ Key: text, Value: text }] },
        HttpRequestMethodConfig: { Values: [text] },
        SourceIpConfig: { Values: [text], IpAddressType: ("ipv4" "ipv6") },
    }];
    REWRITES = { Rewrites: [{ Regex: text, Replace: text }] };
    TRANSFORMS = [{
        Type: ("host-header-rewrite" "url-rewrite"), HostHeaderRewriteConfig: REWRITES, UrlRewriteConfig: REWRITES,
    }];
    MUTUAL = {
        Mode: ("off" "passthrough" "verify"), TrustStoreArn: text, IgnoreClientCertificateExpiry: flag,
        AdvertiseTrustStoreCaNames: ("on" "off"),
    };
    TARGETS = [{ Id: text, Port: int, AvailabilityZone: text }];
}

actions! {
    CreateLoadBalancer {
        Name: text, Subnets: [text], SubnetMappings: SUBNET_MAPPINGS, SecurityGroups: [text],
        Scheme: ("internet-facing" "internal"), Tags: TAGS, Type: ("application" "network" "gateway"),
        IpAddressType: IP_ADDRESS_TYPE, CustomerOwnedIpv4Pool: text,
        EnablePrefixForIpv6SourceNat: ("on" "off"), IpamPools: { Ipv4IpamPoolId: text },
    }
    DescribeLoadBalancers { LoadBalancerArns: [text], Names: [text], Marker: text, PageSize: int }
    DeleteLoadBalancer { LoadBalancerArn: text }
    DescribeLoadBalancerAttributes { LoadBalancerArn: text }
    ModifyLoadBalancerAttributes { LoadBalancerArn: text, Attributes: ATTRIBUTES }
    SetSubnets {
        LoadBalancerArn: text, Subnets: [text], SubnetMappings: SUBNET_MAPPINGS, IpAddressType: IP_ADDRESS_TYPE,
        EnablePrefixForIpv6SourceNat: ("on" "off"),
    }
    SetSecurityGroups {
        LoadBalancerArn: text, SecurityGroups: [text],
        EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic: ("on" "off"),
    }
    SetIpAddressType { LoadBalancerArn: text, IpAddressType: IP_ADDRESS_TYPE }
    CreateTargetGroup {
        Name: text, Protocol: PROTOCOL, ProtocolVersion: text, Port: int, VpcId: text, HealthCheckProtocol: PROTOCOL,
        HealthCheckPort: text, HealthCheckEnabled: flag, HealthCheckPath: text, HealthCheckIntervalSeconds: int,
        HealthCheckTimeoutSeconds: int, HealthyThresholdCount: int, UnhealthyThresholdCount: int, Matcher: MATCHER,
        TargetType: ("instance" "ip" "lambda" "alb"), Tags: TAGS, IpAddressType: ("ipv4" "ipv6"),
    }
    DescribeTargetGroups { LoadBalancerArn: text, TargetGroupArns: [text], Names: [text], Marker: text, PageSize: int }
    ModifyTargetGroup {
        TargetGroupArn: text, HealthCheckProtocol: PROTOCOL, HealthCheckPort: text, HealthCheckPath: text,
        HealthCheckEnabled: flag, HealthCheckIntervalSeconds: int, HealthCheckTimeoutSeconds: int,
        HealthyThresholdCount: int, UnhealthyThresholdCount: int, Matcher: MATCHER,
    }
    DeleteTargetGroup { TargetGroupArn: text }
    DescribeTargetGroupAttributes { TargetGroupArn: text }
    ModifyTargetGroupAttributes { TargetGroupArn: text, Attributes: ATTRIBUTES }
    RegisterTargets { TargetGroupArn: text, Targets: TARGETS }
    DeregisterTargets { TargetGroupArn: text, Targets: TARGETS }
    DescribeTargetHealth { TargetGroupArn: text, Targets: TARGETS, Include: [text] }
    CreateListener {
        LoadBalancerArn: text, Protocol: PROTOCOL, Port: int, SslPolicy: text, Certificates: CERTIFICATES,
        DefaultActions: ACTIONS_OF_A_RULE, AlpnPolicy: [text], Tags: TAGS, MutualAuthentication: MUTUAL,
    }
    DescribeListeners { LoadBalancerArn: text, ListenerArns: [text], Marker: text, PageSize: int }
    ModifyListener {
        ListenerArn: text, Protocol: PROTOCOL, Port: int, SslPolicy: text, Certificates: CERTIFICATES,
        DefaultActions: ACTIONS_OF_A_RULE, AlpnPolicy: [text], MutualAuthentication: MUTUAL,
    }
    DeleteListener { ListenerArn: text }
    DescribeListenerAttributes { ListenerArn: text }
    ModifyListenerAttributes { ListenerArn: text, Attributes: ATTRIBUTES }
    CreateRule {
        ListenerArn: text, Conditions: CONDITIONS, Priority: int, Actions: ACTIONS_OF_A_RULE, Tags: TAGS,
        Transforms: TRANSFORMS,
    }
    DescribeRules { ListenerArn: text, RuleArns: [text], Marker: text, PageSize: int }
    ModifyRule {
        RuleArn: text, Conditions: CONDITIONS, Actions: ACTIONS_OF_A_RULE, Transforms: TRANSFORMS, ResetTransforms: flag,
    }
    SetRulePriorities { RulePriorities: [{ RuleArn: text, Priority: int }] }
    DeleteRule { RuleArn: text }
    AddTags { ResourceArns: [text], Tags: TAGS }
    RemoveTags { ResourceArns: [text], TagKeys: [text] }
    DescribeTags { ResourceArns: [text] }
    AddListenerCertificates { ListenerArn: text, Certificates: CERTIFICATES }
    RemoveListenerCertificates { ListenerArn: text, Certificates: CERTIFICATES }
    DescribeListenerCertificates { ListenerArn: text, Marker: text, PageSize: int }
    DescribeSSLPolicies { Names: [text], Marker: text, PageSize: int, LoadBalancerType: ("application" "network" "gateway") }
    DescribeAccountLimits { Marker: text, PageSize: int }
    CreateTrustStore {
        Name: text, CaCertificatesBundleS3Bucket: text, CaCertificatesBundleS3Key: text,
        CaCertificatesBundleS3ObjectVersion: text, Tags: TAGS,
    }
    ModifyTrustStore {
        TrustStoreArn: text, CaCertificatesBundleS3Bucket: text, CaCertificatesBundleS3Key: text,
        CaCertificatesBundleS3ObjectVersion: text,
    }
    DescribeTrustStores { TrustStoreArns: [text], Names: [text], Marker: text, PageSize: int }
    DescribeTrustStoreAssociations { TrustStoreArn: text, Marker: text, PageSize: int }
    DeleteTrustStore { TrustStoreArn: text }
    DescribeCapacityReservation { LoadBalancerArn: text }
}
