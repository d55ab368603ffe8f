//! Services, task sets and service deployments.

use super::shared::{
    EBS_TAGS, FILE_SYSTEM, LAUNCH_TYPE, LOG_CONFIGURATION, NETWORK, PLACEMENT_CONSTRAINTS,
    PLACEMENT_STRATEGY, PROPAGATE_TAGS, STRATEGY, SWITCH, TAGS,
};
use super::{actions, named};
use crate::shape::{Shape, shape};

named! {
    OTHER_TARGET_GROUP = {
        alternateTargetGroupArn: text, productionListenerRule: text, testListenerRule: text, roleArn: text,
    };
    LOAD_BALANCERS = [{
        targetGroupArn: text, loadBalancerName: text, containerName: text, containerPort: int,
        advancedConfiguration: OTHER_TARGET_GROUP,
    }];
    REGISTRIES = [{ registryArn: text, port: int, containerName: text, containerPort: int }];
    HOOKS = [{
        targetType: ("AWS_LAMBDA" "PAUSE"), hookTargetArn: text, roleArn: text,
        lifecycleStages: [(
            "RECONCILE_SERVICE" "PRE_SCALE_UP" "POST_SCALE_UP" "TEST_TRAFFIC_SHIFT" "POST_TEST_TRAFFIC_SHIFT"
            "PRE_PRODUCTION_TRAFFIC_SHIFT" "PRODUCTION_TRAFFIC_SHIFT" "POST_PRODUCTION_TRAFFIC_SHIFT"
        )],
        hookDetails: any,
        timeoutConfiguration: { timeoutInMinutes: int, action: ("ROLLBACK" "CONTINUE") },
    }];
    DEPLOYMENT = {
        deploymentCircuitBreaker: {
            enable: flag, rollback: flag, resetOnHealthyTask: flag,
            thresholdConfiguration: {
                type: ("COUNT" "BOUNDED_PERCENT" "UNBOUNDED_PERCENT"), value: int,
            },
        },
        maximumPercent: int, minimumHealthyPercent: int,
        alarms: { alarmNames: [text], rollback: flag, enable: flag },
        strategy: ("ROLLING" "BLUE_GREEN" "LINEAR" "CANARY"), bakeTimeInMinutes: int, lifecycleHooks: HOOKS,
        linearConfiguration: { stepPercent: number, stepBakeTimeInMinutes: int },
        canaryConfiguration: { canaryPercent: number, canaryBakeTimeInMinutes: int },
        earlySuccessCriteria: {
            enable: flag, healthyPercent: int, sourceServiceRevisionCleanup: ("BLOCKING" "DEFERRED"),
        },
    };
    CONTROLLER = { type: ("ECS" "CODE_DEPLOY" "EXTERNAL") };
    CONNECT = {
        enabled: flag, namespace: text,
        services: [{
            portName: text, discoveryName: text,
            clientAliases: [{
                port: int, dnsName: text, testTrafficRules: { header: { name: text, value: { exact: text } } },
            }],
            ingressPortOverride: int, timeout: { idleTimeoutSeconds: int, perRequestTimeoutSeconds: int },
            tls: {
                issuerCertificateAuthority: { awsPcaAuthorityArn: text }, kmsKey: text, roleArn: text,
            },
        }],
        logConfiguration: LOG_CONFIGURATION,
        accessLogConfiguration: { format: ("TEXT" "JSON"), includeQueryParameters: SWITCH },
        containerConfigurations: [{ logLevel: ("debug" "info") }],
    };
    SERVICE_VOLUMES = [{
        name: text,
        managedEBSVolume: {
            encrypted: flag, kmsKeyId: text, volumeType: text, sizeInGiB: int, snapshotId: text,
            volumeInitializationRate: int, iops: int, throughput: int, tagSpecifications: EBS_TAGS,
            roleArn: text, filesystemType: FILE_SYSTEM,
        },
    }];
    LATTICE = [{
        roleArn: text, targetGroupArn: text, portName: text,
        advancedConfiguration: {
            alternateTargetGroupArn: text, productionListenerRule: text, testListenerRule: text,
        },
    }];
    GATEWAY_CONNECTORS = [{
        portName: text,
        healthCheck: {
            healthCheckProtocol: ("HTTP" "HTTPS"), healthCheckPort: int, healthCheckPath: text,
            healthCheckTimeoutSeconds: int, healthCheckIntervalSeconds: int, healthyThresholdCount: int,
            unhealthyThresholdCount: int, matcher: { httpCode: text, grpcCode: text },
        },
        filters: { accessTypes: [("PUBLIC" "PRIVATE")] }, deregistrationDelay: { timeoutSeconds: int },
    }];
    MONITORING = { metricConfigurations: [{ metricNames: [text], resolutionSeconds: int }] };
    SCALE = { value: number, unit: ("PERCENT") };
}

actions! {
    CreateService {
        cluster: text, serviceName: text, taskDefinition: text, availabilityZoneRebalancing: SWITCH,
        loadBalancers: LOAD_BALANCERS, serviceRegistries: REGISTRIES, desiredCount: int,
        clientToken: text, launchType: LAUNCH_TYPE, capacityProviderStrategy: STRATEGY,
        platformVersion: text, role: text, deploymentConfiguration: DEPLOYMENT,
        placementConstraints: PLACEMENT_CONSTRAINTS, placementStrategy: PLACEMENT_STRATEGY,
        networkConfiguration: NETWORK, healthCheckGracePeriodSeconds: int,
        schedulingStrategy: ("REPLICA" "DAEMON"), deploymentController: CONTROLLER, tags: TAGS,
        enableECSManagedTags: flag, propagateTags: PROPAGATE_TAGS, enableExecuteCommand: flag,
        serviceConnectConfiguration: CONNECT, volumeConfigurations: SERVICE_VOLUMES,
        vpcLatticeConfigurations: LATTICE, gatewayConnectors: GATEWAY_CONNECTORS, monitoring: MONITORING,
    }
    UpdateService {
        cluster: text, service: text, desiredCount: int, taskDefinition: text,
        capacityProviderStrategy: STRATEGY, deploymentConfiguration: DEPLOYMENT,
        availabilityZoneRebalancing: SWITCH, networkConfiguration: NETWORK,
        placementConstraints: PLACEMENT_CONSTRAINTS, placementStrategy: PLACEMENT_STRATEGY,
        platformVersion: text, forceNewDeployment: flag, healthCheckGracePeriodSeconds: int,
        deploymentController: CONTROLLER, enableExecuteCommand: flag, enableECSManagedTags: flag,
        loadBalancers: LOAD_BALANCERS, propagateTags: PROPAGATE_TAGS, serviceRegistries: REGISTRIES,
        serviceConnectConfiguration: CONNECT, volumeConfigurations: SERVICE_VOLUMES,
        vpcLatticeConfigurations: LATTICE, gatewayConnectors: GATEWAY_CONNECTORS, monitoring: MONITORING,
    }
    DescribeServices { cluster: text, services: [text], include: [("TAGS")] }
    ListServices {
        cluster: text, nextToken: text, maxResults: int, launchType: LAUNCH_TYPE,
        schedulingStrategy: ("REPLICA" "DAEMON"), resourceManagementType: ("CUSTOMER" "ECS"),
    }
    ListServicesByNamespace { namespace: text, nextToken: text, maxResults: int }
    DeleteService { cluster: text, service: text, force: flag }
    CreateTaskSet {
        service: text, cluster: text, externalId: text, taskDefinition: text, networkConfiguration: NETWORK,
        loadBalancers: LOAD_BALANCERS, serviceRegistries: REGISTRIES, launchType: LAUNCH_TYPE,
        capacityProviderStrategy: STRATEGY, platformVersion: text, scale: SCALE, clientToken: text,
        tags: TAGS,
    }
    UpdateTaskSet { cluster: text, service: text, taskSet: text, scale: SCALE }
    DeleteTaskSet { cluster: text, service: text, taskSet: text, force: flag }
    DescribeTaskSets { cluster: text, service: text, taskSets: [text], include: [("TAGS")] }
    UpdateServicePrimaryTaskSet { cluster: text, service: text, primaryTaskSet: text }
    ListServiceDeployments {
        service: text, cluster: text,
        status: [(
            "PENDING" "SUCCESSFUL" "STOPPED" "STOP_REQUESTED" "IN_PROGRESS" "ROLLBACK_REQUESTED"
            "ROLLBACK_IN_PROGRESS" "ROLLBACK_SUCCESSFUL" "ROLLBACK_FAILED"
        )],
        createdAt: { before: number, after: number }, nextToken: text, maxResults: int,
    }
    DescribeServiceDeployments { serviceDeploymentArns: [text] }
    DescribeServiceRevisions { serviceRevisionArns: [text] }
    StopServiceDeployment { serviceDeploymentArn: text, stopType: ("ABORT" "ROLLBACK") }
    ContinueServiceDeployment { serviceDeploymentArn: text, hookId: text, action: ("ROLLBACK" "CONTINUE") }
}
