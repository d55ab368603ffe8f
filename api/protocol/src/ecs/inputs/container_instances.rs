//! Container instances and their attributes.

use super::actions;
use super::shared::{ATTRIBUTES, TAGS};
use crate::shape::shape;

actions! {
    RegisterContainerInstance {
        cluster: text, instanceIdentityDocument: text, instanceIdentityDocumentSignature: text,
        totalResources: [{
            name: text, type: text, doubleValue: number, longValue: number, integerValue: int,
            stringSetValue: [text],
        }],
        versionInfo: { agentVersion: text, agentHash: text, dockerVersion: text }, containerInstanceArn: text,
        attributes: ATTRIBUTES, platformDevices: [{ id: text, type: ("GPU" "NEURON_DEVICE") }], tags: TAGS,
    }
    DeregisterContainerInstance { cluster: text, containerInstance: text, force: flag }
    ListContainerInstances {
        cluster: text, filter: text, nextToken: text, maxResults: int,
        status: ("ACTIVE" "DRAINING" "REGISTERING" "DEREGISTERING" "REGISTRATION_FAILED"),
    }
    DescribeContainerInstances {
        cluster: text, containerInstances: [text], include: [("TAGS" "CONTAINER_INSTANCE_HEALTH")],
    }
    UpdateContainerInstancesState {
        cluster: text, containerInstances: [text],
        status: ("ACTIVE" "DRAINING" "REGISTERING" "DEREGISTERING" "REGISTRATION_FAILED"),
    }
    UpdateContainerAgent { cluster: text, containerInstance: text }
    DiscoverPollEndpoint { containerInstance: text, cluster: text }
    PutAttributes { cluster: text, attributes: ATTRIBUTES }
    DeleteAttributes { cluster: text, attributes: ATTRIBUTES }
    ListAttributes {
        cluster: text, targetType: ("container-instance"), attributeName: text, attributeValue: text,
        nextToken: text, maxResults: int,
    }
}
