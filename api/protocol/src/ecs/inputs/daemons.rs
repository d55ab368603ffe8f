//! Daemons and their task definitions.

use super::shared::{
    DEPENDENCIES, ENVIRONMENT_FILES, HEALTH_CHECK, LOG_CONFIGURATION, MOUNT_POINTS, PAIRS, SECRETS, TAGS,
    ULIMITS,
};
use super::{actions, named};
use crate::shape::{Shape, shape};

named! {
    DAEMON_DEPLOYMENT = {
        drainPercent: number, alarms: { alarmNames: [text], enable: flag }, bakeTimeInMinutes: int,
    };
}

actions! {
    CreateDaemon {
        daemonName: text, clusterArn: text, daemonTaskDefinitionArn: text, capacityProviderArns: [text],
        deploymentConfiguration: DAEMON_DEPLOYMENT, tags: TAGS, propagateTags: ("DAEMON" "NONE"),
        enableECSManagedTags: flag, enableExecuteCommand: flag, clientToken: text, critical: flag,
    }
    UpdateDaemon {
        daemonArn: text, daemonTaskDefinitionArn: text, capacityProviderArns: [text],
        deploymentConfiguration: DAEMON_DEPLOYMENT, propagateTags: ("DAEMON" "NONE"),
        enableECSManagedTags: flag, enableExecuteCommand: flag, critical: flag,
    }
    DeleteDaemon { daemonArn: text }
    DescribeDaemon { daemonArn: text }
    ListDaemons { clusterArn: text, capacityProviderArns: [text], maxResults: int, nextToken: text }
    RegisterDaemonTaskDefinition {
        family: text, taskRoleArn: text, executionRoleArn: text,
        containerDefinitions: [{
            name: text, image: text, memory: int, memoryReservation: int,
            repositoryCredentials: { credentialsParameter: text }, healthCheck: HEALTH_CHECK, cpu: int,
            essential: flag, entryPoint: [text], command: [text], workingDirectory: text,
            environmentFiles: ENVIRONMENT_FILES, environment: PAIRS, secrets: SECRETS,
            readonlyRootFilesystem: flag, mountPoints: MOUNT_POINTS, logConfiguration: LOG_CONFIGURATION,
            firelensConfiguration: { type: ("fluentd" "fluentbit"), options: {* text} }, privileged: flag,
            user: text, ulimits: ULIMITS,
            linuxParameters: {
                capabilities: { add: [text], drop: [text] },
                devices: [{ hostPath: text, containerPath: text, permissions: [("read" "write" "mknod")] }],
                initProcessEnabled: flag, tmpfs: [{ containerPath: text, size: int, mountOptions: [text] }],
            },
            dependsOn: DEPENDENCIES, startTimeout: int, stopTimeout: int,
            systemControls: [{ namespace: text, value: text }], interactive: flag, pseudoTerminal: flag,
            restartPolicy: { enabled: flag, ignoredExitCodes: [int], restartAttemptPeriod: int },
        }],
        cpu: text, memory: text,
        volumes: [{
            name: text, host: { sourcePath: text },
            logDriverVolumeConfiguration: {
                driver: ("json-file" "syslog" "journald" "gelf" "fluentd" "awslogs" "splunk" "awsfirelens"),
            },
        }],
        tags: TAGS, pidMode: ("none" "shared"), ipcMode: ("none" "shared"),
    }
    DescribeDaemonTaskDefinition { daemonTaskDefinition: text }
    ListDaemonTaskDefinitions {
        familyPrefix: text, family: text, revision: ("LAST_REGISTERED"),
        status: ("ACTIVE" "DELETE_IN_PROGRESS" "ALL"), sort: ("ASC" "DESC"), nextToken: text, maxResults: int,
    }
    DeleteDaemonTaskDefinition { daemonTaskDefinition: text }
    ListDaemonDeployments {
        daemonArn: text,
        status: [(
            "PENDING" "SUCCESSFUL" "STOPPED" "STOP_REQUESTED" "IN_PROGRESS" "ROLLBACK_IN_PROGRESS"
            "ROLLBACK_SUCCESSFUL" "ROLLBACK_FAILED"
        )],
        createdAt: { before: number, after: number }, maxResults: int, nextToken: text,
    }
    DescribeDaemonDeployments { daemonDeploymentArns: [text] }
    DescribeDaemonRevisions { daemonRevisionArns: [text] }
}
