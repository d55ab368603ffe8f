//! Gateways and express gateway services.

use super::shared::{PAIRS, SECRETS, TAGS};
use super::{actions, named};
use crate::shape::{Shape, shape};

named! {
    EXPRESS_CONTAINER = {
        image: text, containerPort: int, awsLogsConfiguration: { logGroup: text, logStreamPrefix: text },
        repositoryCredentials: { credentialsParameter: text }, command: [text], environment: PAIRS,
        secrets: SECRETS,
    };
}

actions! {
    AssociateGatewayWithCluster { gateway: text, cluster: text }
    CreateExpressGatewayService {
        executionRoleArn: text, infrastructureRoleArn: text, serviceName: text, cluster: text,
        healthCheckPath: text, primaryContainer: EXPRESS_CONTAINER, taskRoleArn: text,
        networkConfiguration: { securityGroups: [text], subnets: [text] }, cpu: text, memory: text,
        cpuArchitecture: ("X86_64" "ARM64"),
        scalingTarget: {
            minTaskCount: int, maxTaskCount: int,
            autoScalingMetric: ("AVERAGE_CPU" "AVERAGE_MEMORY" "REQUEST_COUNT_PER_TARGET"),
            autoScalingTargetValue: int,
        },
        tags: TAGS, taskDefinitionArn: text,
    }
    CreateGateway {
        name: text, infrastructureRoleArn: text, clientToken: text, deletionProtection: flag,
        configuration: {
            hostSharedAlb: {
                networkConfiguration: {
                    inboundSecurityGroup: text, subnets: [text],
                    ipAddressType: ("ipv4" "dualstack" "dualstack-without-public-ipv4"),
                },
                scheme: ("internet-facing" "internal"), webACLArn: text,
                accessLogs: { destination: { s3: { bucket: text, prefix: text } } }, port: int,
                protocol: ("HTTP" "HTTPS"), maxAlbCount: int, httpDesync: ("monitor" "defensive" "strictest"),
                testTrafficRules: { header: { name: text, values: [text] } },
            },
        },
        tags: TAGS, propagateTags: ("NONE" "GATEWAY"),
    }
    DeleteExpressGatewayService { serviceArn: text }
    DeleteGateway { gateway: text }
    DescribeExpressGatewayService { serviceArn: text, include: [("TAGS")] }
    DescribeGateway { gateway: text }
    DescribeGatewayResources { gateway: text, maxResults: int, nextToken: text }
    DescribeGatewayRoute { gatewayRouteArn: text }
    DisassociateGatewayFromCluster { gateway: text, cluster: text }
    ListGatewayClusterAssociations {
        gateway: text, cluster: text, status: [("ACTIVE" "DISASSOCIATING" "INACTIVE")], maxResults: int,
        nextToken: text,
    }
    ListGatewayRoutes {
        gateway: text, cluster: text, service: text, serviceContainerPortName: text,
        status: [(
            "ACTIVE" "CREATE_IN_PROGRESS" "CREATE_FAILED" "UPDATE_IN_PROGRESS" "UPDATE_FAILED"
            "DELETE_IN_PROGRESS" "DELETE_FAILED"
        )],
        maxResults: int, nextToken: text,
    }
    ListGateways {
        names: [text], status: [("ACTIVE" "UPDATE_IN_PROGRESS" "UPDATE_COMPLETE" "UPDATE_FAILED" "DELETED")],
        maxResults: int, nextToken: text,
    }
    UpdateExpressGatewayService {
        serviceArn: text, executionRoleArn: text, healthCheckPath: text, primaryContainer: EXPRESS_CONTAINER,
        taskRoleArn: text, networkConfiguration: { securityGroups: [text], subnets: [text] }, cpu: text,
        memory: text, cpuArchitecture: ("X86_64" "ARM64"),
        scalingTarget: {
            minTaskCount: int, maxTaskCount: int,
            autoScalingMetric: ("AVERAGE_CPU" "AVERAGE_MEMORY" "REQUEST_COUNT_PER_TARGET"),
            autoScalingTargetValue: int,
        },
        taskDefinitionArn: text,
    }
    UpdateGateway {
        gateway: text, infrastructureRoleArn: text, deletionProtection: flag,
        configuration: {
            hostSharedAlb: {
                networkConfiguration: { inboundSecurityGroup: text }, maxAlbCount: int, webACLArn: text,
                accessLogs: { destination: { s3: { bucket: text, prefix: text } } },
                httpDesync: ("monitor" "defensive" "strictest"),
                testTrafficRules: { header: { name: text, values: [text] } },
            },
        },
        propagateTags: ("NONE" "GATEWAY"),
    }
}
