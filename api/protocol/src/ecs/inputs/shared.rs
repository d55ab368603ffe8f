//! What the shapes of several families share.

use super::named;
use crate::shape::{Shape, shape};

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
    ATTRIBUTES = [{ name: text, value: text, targetType: ("container-instance"), targetId: text }];
    EBS_TAGS = [{ resourceType: ("volume"), tags: TAGS, propagateTags: PROPAGATE_TAGS }];
    FILE_SYSTEM = ("ext3" "ext4" "xfs" "ntfs");
    ULIMITS = [{
        name: (
            "core" "cpu" "data" "fsize" "locks" "memlock" "msgqueue" "nice" "nofile" "nproc" "rss" "rtprio" "rttime"
            "sigpending" "stack"
        ),
        softLimit: int, hardLimit: int,
    }];
    HEALTH_CHECK = { command: [text], interval: int, timeout: int, retries: int, startPeriod: int };
    MOUNT_POINTS = [{ sourceVolume: text, containerPath: text, readOnly: flag }];
    DEPENDENCIES = [{ containerName: text, condition: ("START" "COMPLETE" "SUCCESS" "HEALTHY") }];
}
