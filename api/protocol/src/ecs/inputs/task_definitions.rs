//! Task definitions.

use super::shared::{
    ACCELERATORS, DEPENDENCIES, ENVIRONMENT_FILES, EPHEMERAL_STORAGE, HEALTH_CHECK, LAUNCH_TYPE,
    LOG_CONFIGURATION, MOUNT_POINTS, PAIRS, RESOURCES, SECRETS, SWITCH, TAGS, ULIMITS,
};
use super::{actions, named};
use crate::shape::{Shape, shape};

named! {
    LINUX_PARAMETERS = {
        capabilities: { add: [text], drop: [text] },
        devices: [{ hostPath: text, containerPath: text, permissions: [("read" "write" "mknod")] }],
        initProcessEnabled: flag, sharedMemorySize: int,
        tmpfs: [{ containerPath: text, size: int, mountOptions: [text] }],
        maxSwap: int, swappiness: int,
    };
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
        mountPoints: MOUNT_POINTS,
        volumesFrom: [{ sourceContainer: text, readOnly: flag }],
        linuxParameters: LINUX_PARAMETERS, secrets: SECRETS,
        dependsOn: DEPENDENCIES,
        startTimeout: int, stopTimeout: int, versionConsistency: ("enabled" "disabled"),
        hostname: text, user: text, workingDirectory: text, disableNetworking: flag, privileged: flag,
        readonlyRootFilesystem: flag, dnsServers: [text], dnsSearchDomains: [text],
        extraHosts: [{ hostname: text, ipAddress: text }],
        dockerSecurityOptions: [text], interactive: flag, pseudoTerminal: flag, dockerLabels: {* text},
        ulimits: ULIMITS, logConfiguration: LOG_CONFIGURATION,
        healthCheck: HEALTH_CHECK,
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

actions! {
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
}
