//! Tasks.

use super::shared::{
    ACCELERATORS, EBS_TAGS, ENVIRONMENT_FILES, EPHEMERAL_STORAGE, FILE_SYSTEM, LAUNCH_TYPE, NETWORK, PAIRS,
    PLACEMENT_CONSTRAINTS, PLACEMENT_STRATEGY, PROPAGATE_TAGS, RESOURCES, STRATEGY, TAGS,
};
use super::{actions, named};
use crate::shape::{Shape, shape};

named! {
    OVERRIDE = {
        containerOverrides: [{
            name: text, command: [text], environment: PAIRS, environmentFiles: ENVIRONMENT_FILES, cpu: int,
            memory: int, memoryReservation: int, resourceRequirements: RESOURCES,
        }],
        cpu: text, inferenceAcceleratorOverrides: ACCELERATORS, executionRoleArn: text, memory: text,
        taskRoleArn: text, ephemeralStorage: EPHEMERAL_STORAGE,
    };
    TASK_VOLUMES = [{
        name: text,
        managedEBSVolume: {
            encrypted: flag, kmsKeyId: text, volumeType: text, sizeInGiB: int, snapshotId: text,
            volumeInitializationRate: int, iops: int, throughput: int, tagSpecifications: EBS_TAGS,
            roleArn: text, terminationPolicy: { deleteOnTermination: flag }, filesystemType: FILE_SYSTEM,
        },
    }];
    BINDINGS = [{
        bindIP: text, containerPort: int, hostPort: int, protocol: ("tcp" "udp"), containerPortRange: text,
        hostPortRange: text,
    }];
    ATTACHMENTS = [{ attachmentArn: text, status: text }];
}

actions! {
    RunTask {
        capacityProviderStrategy: STRATEGY, cluster: text, count: int, enableECSManagedTags: flag,
        enableExecuteCommand: flag, group: text, launchType: LAUNCH_TYPE, networkConfiguration: NETWORK,
        overrides: OVERRIDE, placementConstraints: PLACEMENT_CONSTRAINTS,
        placementStrategy: PLACEMENT_STRATEGY, platformVersion: text, propagateTags: PROPAGATE_TAGS,
        referenceId: text, startedBy: text, tags: TAGS, taskDefinition: text, clientToken: text,
        volumeConfigurations: TASK_VOLUMES,
    }
    StartTask {
        cluster: text, containerInstances: [text], enableECSManagedTags: flag, enableExecuteCommand: flag,
        group: text, networkConfiguration: NETWORK, overrides: OVERRIDE, propagateTags: PROPAGATE_TAGS,
        referenceId: text, startedBy: text, tags: TAGS, taskDefinition: text,
        volumeConfigurations: TASK_VOLUMES,
    }
    StopTask { cluster: text, task: text, reason: text }
    DescribeTasks { cluster: text, tasks: [text], include: [("TAGS")] }
    ListTasks {
        cluster: text, containerInstance: text, family: text, nextToken: text, maxResults: int,
        startedBy: text, serviceName: text, desiredStatus: ("RUNNING" "PENDING" "STOPPED"),
        launchType: LAUNCH_TYPE, daemonName: text,
    }
    GetTaskProtection { cluster: text, tasks: [text] }
    UpdateTaskProtection { cluster: text, tasks: [text], protectionEnabled: flag, expiresInMinutes: int }
    ExecuteCommand { cluster: text, container: text, command: text, interactive: flag, task: text }
    SubmitAttachmentStateChanges { cluster: text, attachments: ATTACHMENTS }
    SubmitContainerStateChange {
        cluster: text, task: text, containerName: text, runtimeId: text, status: text, exitCode: int,
        reason: text, networkBindings: BINDINGS,
    }
    SubmitTaskStateChange {
        cluster: text, task: text, status: text, reason: text,
        containers: [{
            containerName: text, imageDigest: text, runtimeId: text, exitCode: int, networkBindings: BINDINGS,
            reason: text, status: text,
        }],
        attachments: ATTACHMENTS,
        managedAgents: [{
            containerName: text, managedAgentName: ("ExecuteCommandAgent"), status: text, reason: text,
        }],
        pullStartedAt: number, pullStoppedAt: number, executionStoppedAt: number,
    }
}
