//! The shapes of the requests of ECS's actions, as ECS's model has them.
//!
//! One difference: `none` is a log driver here.

use crate::shape::{Shape, shape};

type NamedShape = (&'static str, Shape);

/// The shape of the request of an action; None for one that is not answered here.
#[must_use]
pub fn of(operation: &str) -> Option<&'static Shape> {
    ACTIONS.iter().find(|(name, _)| *name == operation).map(|(_, shape)| shape)
}

macro_rules! named {
    ($($name:ident = $shape:tt;)*) => { $(const $name: Shape = shape!($shape);)* };
}

macro_rules! actions {
    ($($name:ident $shape:tt)*) => {
        const ACTIONS: &[NamedShape] = &[$((stringify!($name), shape!($shape)),)*];
    };
}

// What several shapes share.
named! {
    TAGS = [{ key: text, value: text }];
    PAIRS = [{ name: text, value: text }];
    SECRETS = [{ name: text, valueFrom: text }];
    SWITCH = ("ENABLED" "DISABLED");
    LAUNCH_TYPE = ("EC2" "FARGATE" "EXTERNAL" "MANAGED_INSTANCES");
    PROPAGATE_TAGS = ("TASK_DEFINITION" "SERVICE" "NONE");
    STRATEGY = [{ capacityProvider: text, weight: int, base: int }];
    PLACEMENT_CONSTRAINTS = [{ type: ("distinctInstance" "memberOf"), expression: text }];
    PLACEMENT_STRATEGY = [{ type: ("random" "spread" "binpack"), field: text }];
    NETWORK = { awsvpcConfiguration: { subnets: [text], securityGroups: [text], assignPublicIp: SWITCH } };
    EPHEMERAL_STORAGE = { sizeInGiB: int };
    ENVIRONMENT_FILES = [{ value: text, type: ("s3") }];
    RESOURCES = [{
        value: text, type: ("GPU" "InferenceAccelerator" "NeuronDevice"),
        sharingStrategy: { nvidiaMps: { memory: int, maxComputePercent: int } },
    }];
    ACCELERATORS = [{ deviceName: text, deviceType: text }];
    LOG_CONFIGURATION = {
        logDriver: (
            "json-file" "syslog" "journald" "gelf" "fluentd" "awslogs" "splunk" "awsfirelens" "none"
        ),
        options: {* text}, secretOptions: SECRETS,
    };
}

// Clusters.
named! {
    CLUSTER_SETTINGS = [{ name: ("containerInsights"), value: text }];
    CLUSTER_CONFIGURATION = {
        executeCommandConfiguration: {
            kmsKeyId: text, logging: ("NONE" "DEFAULT" "OVERRIDE"),
            logConfiguration: {
                cloudWatchLogGroupName: text, cloudWatchEncryptionEnabled: flag, s3BucketName: text,
                s3EncryptionEnabled: flag, s3KeyPrefix: text,
            },
        },
        managedStorageConfiguration: { kmsKeyId: text, fargateEphemeralStorageKmsKeyId: text },
    };
    CONNECT_DEFAULTS = { namespace: text };
}

// Task definitions.
named! {
    LINUX_PARAMETERS = {
        capabilities: { add: [text], drop: [text] },
        devices: [{ hostPath: text, containerPath: text, permissions: [("read" "write" "mknod")] }],
        initProcessEnabled: flag, sharedMemorySize: int,
        tmpfs: [{ containerPath: text, size: int, mountOptions: [text] }],
        maxSwap: int, swappiness: int,
    };
    ULIMITS = [{
        name: (
            "core" "cpu" "data" "fsize" "locks" "memlock" "msgqueue" "nice" "nofile" "nproc" "rss" "rtprio" "rttime"
            "sigpending" "stack"
        ),
        softLimit: int, hardLimit: int,
    }];
    CONTAINER = {
        name: text, image: text, repositoryCredentials: { credentialsParameter: text },
        cpu: int, memory: int, memoryReservation: int, links: [text],
        portMappings: [{
            containerPort: int, hostPort: int, protocol: ("tcp" "udp"), name: text,
            appProtocol: ("http" "http2" "grpc"), containerPortRange: text,
        }],
        essential: flag,
        restartPolicy: { enabled: flag, ignoredExitCodes: [int], restartAttemptPeriod: int },
        entryPoint: [text], command: [text], environment: PAIRS, environmentFiles: ENVIRONMENT_FILES,
        mountPoints: [{ sourceVolume: text, containerPath: text, readOnly: flag }],
        volumesFrom: [{ sourceContainer: text, readOnly: flag }],
        linuxParameters: LINUX_PARAMETERS, secrets: SECRETS,
        dependsOn: [{ containerName: text, condition: ("START" "COMPLETE" "SUCCESS" "HEALTHY") }],
        startTimeout: int, stopTimeout: int, versionConsistency: ("enabled" "disabled"),
        hostname: text, user: text, workingDirectory: text, disableNetworking: flag, privileged: flag,
        readonlyRootFilesystem: flag, dnsServers: [text], dnsSearchDomains: [text],
        extraHosts: [{ hostname: text, ipAddress: text }],
        dockerSecurityOptions: [text], interactive: flag, pseudoTerminal: flag, dockerLabels: {* text},
        ulimits: ULIMITS, logConfiguration: LOG_CONFIGURATION,
        healthCheck: { command: [text], interval: int, timeout: int, retries: int, startPeriod: int },
        systemControls: [{ namespace: text, value: text }],
        resourceRequirements: RESOURCES,
        firelensConfiguration: { type: ("fluentd" "fluentbit"), options: {* text} },
        credentialSpecs: [text],
    };
    VOLUME = {
        name: text, host: { sourcePath: text },
        dockerVolumeConfiguration: {
            scope: ("task" "shared"), autoprovision: flag, driver: text, driverOpts: {* text}, labels: {* text},
        },
        efsVolumeConfiguration: {
            fileSystemId: text, rootDirectory: text, transitEncryption: SWITCH, transitEncryptionPort: int,
            authorizationConfig: { accessPointId: text, iam: SWITCH },
        },
        s3filesVolumeConfiguration: {
            fileSystemArn: text, rootDirectory: text, transitEncryptionPort: int, accessPointArn: text,
        },
        fsxWindowsFileServerVolumeConfiguration: {
            fileSystemId: text, rootDirectory: text,
            authorizationConfig: { credentialsParameter: text, domain: text },
        },
        configuredAtLaunch: flag,
    };
    PLATFORM = {
        cpuArchitecture: ("X86_64" "ARM64"),
        operatingSystemFamily: (
            "WINDOWS_SERVER_2019_FULL" "WINDOWS_SERVER_2019_CORE" "WINDOWS_SERVER_2016_FULL"
            "WINDOWS_SERVER_2004_CORE" "WINDOWS_SERVER_2022_CORE" "WINDOWS_SERVER_2022_FULL"
            "WINDOWS_SERVER_2025_CORE" "WINDOWS_SERVER_2025_FULL" "WINDOWS_SERVER_20H2_CORE" "LINUX"
        ),
    };
}

// Tasks.
named! {
    OVERRIDE = {
        containerOverrides: [{
            name: text, command: [text], environment: PAIRS, environmentFiles: ENVIRONMENT_FILES, cpu: int,
            memory: int, memoryReservation: int, resourceRequirements: RESOURCES,
        }],
        cpu: text, inferenceAcceleratorOverrides: ACCELERATORS, executionRoleArn: text, memory: text,
        taskRoleArn: text, ephemeralStorage: EPHEMERAL_STORAGE,
    };
    EBS_TAGS = [{ resourceType: ("volume"), tags: TAGS, propagateTags: PROPAGATE_TAGS }];
    FILE_SYSTEM = ("ext3" "ext4" "xfs" "ntfs");
    TASK_VOLUMES = [{
        name: text,
        managedEBSVolume: {
            encrypted: flag, kmsKeyId: text, volumeType: text, sizeInGiB: int, snapshotId: text,
            volumeInitializationRate: int, iops: int, throughput: int, tagSpecifications: EBS_TAGS,
            roleArn: text, terminationPolicy: { deleteOnTermination: flag }, filesystemType: FILE_SYSTEM,
        },
    }];
}

// Services.
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
}

actions! {
    CreateCluster {
        clusterName: text, tags: TAGS, settings: CLUSTER_SETTINGS, configuration: CLUSTER_CONFIGURATION,
        capacityProviders: [text], defaultCapacityProviderStrategy: STRATEGY,
        serviceConnectDefaults: CONNECT_DEFAULTS,
    }
    DescribeClusters {
        clusters: [text], include: [("ATTACHMENTS" "CONFIGURATIONS" "SETTINGS" "STATISTICS" "TAGS")],
    }
    ListClusters { nextToken: text, maxResults: int }
    DeleteCluster { cluster: text }
    UpdateCluster {
        cluster: text, settings: CLUSTER_SETTINGS, configuration: CLUSTER_CONFIGURATION,
        serviceConnectDefaults: CONNECT_DEFAULTS,
    }
    UpdateClusterSettings { cluster: text, settings: CLUSTER_SETTINGS }
    PutClusterCapacityProviders {
        cluster: text, capacityProviders: [text], defaultCapacityProviderStrategy: STRATEGY,
    }
    ListContainerInstances {
        cluster: text, filter: text, nextToken: text, maxResults: int,
        status: ("ACTIVE" "DRAINING" "REGISTERING" "DEREGISTERING" "REGISTRATION_FAILED"),
    }
    DescribeContainerInstances {
        cluster: text, containerInstances: [text], include: [("TAGS" "CONTAINER_INSTANCE_HEALTH")],
    }
    RegisterTaskDefinition {
        family: text, taskRoleArn: text, executionRoleArn: text,
        networkMode: ("awsvpc" "bridge" "host" "none"), containerDefinitions: [CONTAINER],
        volumes: [VOLUME], placementConstraints: [{ type: ("memberOf"), expression: text }],
        requiresCompatibilities: [LAUNCH_TYPE], cpu: text, memory: text, tags: TAGS,
        pidMode: ("host" "task"), ipcMode: ("host" "task" "none"),
        proxyConfiguration: { type: ("APPMESH"), containerName: text, properties: PAIRS },
        inferenceAccelerators: ACCELERATORS, ephemeralStorage: EPHEMERAL_STORAGE,
        runtimePlatform: PLATFORM, enableFaultInjection: flag,
        trustedExecutionConfiguration: {
            isolationMode: ("SHARED" "ISOLATED_SANDBOX" "CONFIDENTIAL_SANDBOX"), attestationPolicy: text,
        },
    }
    DescribeTaskDefinition { taskDefinition: text, include: [("TAGS")] }
    ListTaskDefinitions {
        familyPrefix: text, status: ("ACTIVE" "INACTIVE" "DELETE_IN_PROGRESS"), sort: ("ASC" "DESC"),
        nextToken: text, maxResults: int,
    }
    ListTaskDefinitionFamilies {
        familyPrefix: text, status: ("ACTIVE" "INACTIVE" "ALL"), nextToken: text, maxResults: int,
    }
    DeregisterTaskDefinition { taskDefinition: text }
    DeleteTaskDefinitions { taskDefinitions: [text] }
    RunTask {
        capacityProviderStrategy: STRATEGY, cluster: text, count: int, enableECSManagedTags: flag,
        enableExecuteCommand: flag, group: text, launchType: LAUNCH_TYPE, networkConfiguration: NETWORK,
        overrides: OVERRIDE, placementConstraints: PLACEMENT_CONSTRAINTS,
        placementStrategy: PLACEMENT_STRATEGY, platformVersion: text, propagateTags: PROPAGATE_TAGS,
        referenceId: text, startedBy: text, tags: TAGS, taskDefinition: text, clientToken: text,
        volumeConfigurations: TASK_VOLUMES,
    }
    StopTask { cluster: text, task: text, reason: text }
    DescribeTasks { cluster: text, tasks: [text], include: [("TAGS")] }
    ListTasks {
        cluster: text, containerInstance: text, family: text, nextToken: text, maxResults: int,
        startedBy: text, serviceName: text, desiredStatus: ("RUNNING" "PENDING" "STOPPED"),
        launchType: LAUNCH_TYPE, daemonName: text,
    }
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
    DeleteService { cluster: text, service: text, force: flag }
    ListAccountSettings {
        name: text, value: text, principalArn: text, effectiveSettings: flag, nextToken: text, maxResults: int,
    }
    TagResource { resourceArn: text, tags: TAGS }
    UntagResource { resourceArn: text, tagKeys: [text] }
    ListTagsForResource { resourceArn: text }
}
