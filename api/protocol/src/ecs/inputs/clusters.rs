//! Clusters, capacity providers and account settings.

use super::shared::{STRATEGY, SWITCH, TAGS};
use super::{actions, named};
use crate::shape::{Shape, shape};

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
    MANAGED_SCALING = {
        status: SWITCH, targetCapacity: int, minimumScalingStepSize: int, maximumScalingStepSize: int,
        instanceWarmupPeriod: int,
    };
    INSTANCE_REQUIREMENTS = {
        vCpuCount: { min: int, max: int }, memoryMiB: { min: int, max: int },
        cpuManufacturers: [("intel" "amd" "amazon-web-services")],
        memoryGiBPerVCpu: { min: number, max: number }, excludedInstanceTypes: [text],
        instanceGenerations: [("current" "previous")], spotMaxPricePercentageOverLowestPrice: int,
        onDemandMaxPricePercentageOverLowestPrice: int, bareMetal: ("included" "required" "excluded"),
        burstablePerformance: ("included" "required" "excluded"), requireHibernateSupport: flag,
        networkInterfaceCount: { min: int, max: int }, localStorage: ("included" "required" "excluded"),
        localStorageTypes: [("hdd" "ssd")], totalLocalStorageGB: { min: number, max: number },
        baselineEbsBandwidthMbps: { min: int, max: int }, acceleratorTypes: [("gpu" "fpga" "inference")],
        acceleratorCount: { min: int, max: int },
        acceleratorManufacturers: [("amazon-web-services" "amd" "nvidia" "xilinx" "habana")],
        acceleratorNames: [(
            "a100" "inferentia" "k520" "k80" "m60" "radeon-pro-v520" "t4" "vu9p" "v100" "a10g" "h100" "t4g"
            "l40s" "l4"
        )],
        acceleratorTotalMemoryMiB: { min: int, max: int }, networkBandwidthGbps: { min: number, max: number },
        allowedInstanceTypes: [text], maxSpotPriceAsPercentageOfOptimalOnDemandPrice: int,
    };
    NEW_MANAGED_INSTANCES = {
        infrastructureRoleArn: text,
        instanceLaunchTemplate: {
            ec2InstanceProfileArn: text, networkConfiguration: { subnets: [text], securityGroups: [text] },
            storageConfiguration: { storageSizeGiB: int },
            localStorageConfiguration: { useLocalStorage: flag }, monitoring: ("BASIC" "DETAILED"),
            capacityOptionType: ("ON_DEMAND" "SPOT" "RESERVED"), instanceMetadataTagsPropagation: flag,
            instanceRequirements: INSTANCE_REQUIREMENTS, fipsEnabled: flag,
            capacityReservations: {
                reservationGroupArn: text,
                reservationPreference: ("RESERVATIONS_ONLY" "RESERVATIONS_FIRST" "RESERVATIONS_EXCLUDED"),
            },
            nitroEnclavesEnabled: flag,
        },
        propagateTags: ("CAPACITY_PROVIDER" "NONE"), infrastructureOptimization: { scaleInAfter: int },
        autoRepairConfiguration: { actionsStatus: SWITCH },
    };
    MANAGED_INSTANCES = {
        infrastructureRoleArn: text,
        instanceLaunchTemplate: {
            ec2InstanceProfileArn: text, networkConfiguration: { subnets: [text], securityGroups: [text] },
            storageConfiguration: { storageSizeGiB: int }, instanceMetadataTagsPropagation: flag,
            localStorageConfiguration: { useLocalStorage: flag }, monitoring: ("BASIC" "DETAILED"),
            instanceRequirements: INSTANCE_REQUIREMENTS,
            capacityReservations: {
                reservationGroupArn: text,
                reservationPreference: ("RESERVATIONS_ONLY" "RESERVATIONS_FIRST" "RESERVATIONS_EXCLUDED"),
            },
        },
        propagateTags: ("CAPACITY_PROVIDER" "NONE"), infrastructureOptimization: { scaleInAfter: int },
        autoRepairConfiguration: { actionsStatus: SWITCH },
    };
    SETTING_NAME = (
        "serviceLongArnFormat" "taskLongArnFormat" "containerInstanceLongArnFormat" "awsvpcTrunking"
        "containerInsights" "fargateFIPSMode" "tagResourceAuthorization" "fargateTaskRetirementWaitPeriod"
        "guardDutyActivate" "defaultLogDriverMode" "fargateEventWindows"
    );
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
    CreateCapacityProvider {
        name: text, cluster: text,
        autoScalingGroupProvider: {
            autoScalingGroupArn: text, managedScaling: MANAGED_SCALING, managedTerminationProtection: SWITCH,
            managedDraining: SWITCH,
        },
        managedInstancesProvider: NEW_MANAGED_INSTANCES, tags: TAGS,
    }
    UpdateCapacityProvider {
        name: text, cluster: text,
        autoScalingGroupProvider: {
            managedScaling: MANAGED_SCALING, managedTerminationProtection: SWITCH, managedDraining: SWITCH,
        },
        managedInstancesProvider: MANAGED_INSTANCES,
    }
    DeleteCapacityProvider { capacityProvider: text, cluster: text }
    DescribeCapacityProviders {
        capacityProviders: [text], cluster: text, include: [("TAGS")], maxResults: int, nextToken: text,
    }
    PutAccountSetting { name: SETTING_NAME, value: text, principalArn: text }
    PutAccountSettingDefault { name: SETTING_NAME, value: text }
    DeleteAccountSetting { name: SETTING_NAME, principalArn: text }
    ListAccountSettings {
        name: text, value: text, principalArn: text, effectiveSettings: flag, nextToken: text, maxResults: int,
    }
    TagResource { resourceArn: text, tags: TAGS }
    UntagResource { resourceArn: text, tagKeys: [text] }
    ListTagsForResource { resourceArn: text }
}
