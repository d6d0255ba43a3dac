package conformance

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/iothub/armiothub"
)

func clients(t *testing.T) *armiothub.ClientFactory {
	return must(armiothub.NewClientFactory(env(t, "AZURE_SUBSCRIPTION_ID"), credential(t), management(t)))(t)
}

// makeHub makes one that is gone after the test.
func makeHub(t *testing.T, ctx context.Context, name string) armiothub.Description {
	hubs, group := clients(t).NewResourceClient(), env(t, "AZURE_RESOURCE_GROUP")
	wanted := armiothub.Description{
		Location: to.Ptr("westeurope"),
		SKU:      &armiothub.SKUInfo{Name: to.Ptr(armiothub.IotHubSKUS1), Capacity: to.Ptr[int64](1)},
		Tags:     map[string]*string{"made": to.Ptr("in Go")},
	}
	poller := must(hubs.BeginCreateOrUpdate(ctx, group, name, wanted, nil))(t)
	made := must(poller.PollUntilDone(ctx, &runtime.PollUntilDoneOptions{Frequency: time.Second}))(t)
	t.Cleanup(func() {
		poller, err := hubs.BeginDelete(context.Background(), group, name, nil)
		if err == nil {
			_, err = poller.PollUntilDone(context.Background(), &runtime.PollUntilDoneOptions{Frequency: time.Second})
		}
		if err != nil {
			t.Error(err)
		}
	})
	return made.Description
}

func TestAHubIsMadeShownListedAndDeleted(t *testing.T) {
	ctx, name, group := within(t), unique("hub"), env(t, "AZURE_RESOURCE_GROUP")
	hubs := clients(t).NewResourceClient()
	t.Run("made", func(t *testing.T) {
		made := makeHub(t, ctx, name)
		equal(t, "Succeeded", *made.Properties.ProvisioningState)
		equal(t, "Active", *made.Properties.State)
		equal(t, "in Go", *made.Tags["made"])
		shown := must(hubs.Get(ctx, group, name, nil))(t)
		equal(t, *made.Properties.HostName, *shown.Properties.HostName)

		var names []string
		for pager := hubs.NewListByResourceGroupPager(group, nil); pager.More(); {
			for _, hub := range must(pager.NextPage(ctx))(t).Value {
				names = append(names, *hub.Name)
			}
		}
		if !slices.Contains(names, name) {
			t.Fatalf("%s is not among %v", name, names)
		}
		taken := must(hubs.CheckNameAvailability(ctx, armiothub.OperationInputs{Name: to.Ptr(name)}, nil))(t)
		equal(t, false, *taken.NameAvailable)
		poller := must(hubs.BeginUpdate(ctx, group, name, armiothub.TagsResource{Tags: map[string]*string{"place": to.Ptr("desk")}}, nil))(t)
		updated := must(poller.PollUntilDone(ctx, &runtime.PollUntilDoneOptions{Frequency: time.Second}))(t)
		equal(t, "desk", *updated.Tags["place"])
	})
	_, err := hubs.Get(ctx, group, name, nil)
	refused(t, err, 404, "ResourceNotFound")
}

func TestKeysConsumerGroupsAndFiguresOfAHub(t *testing.T) {
	ctx, name, group := within(t), unique("hub"), env(t, "AZURE_RESOURCE_GROUP")
	hubs := clients(t).NewResourceClient()
	makeHub(t, ctx, name)

	rights := map[string]armiothub.AccessRights{}
	for pager := hubs.NewListKeysPager(group, name, nil); pager.More(); {
		for _, rule := range must(pager.NextPage(ctx))(t).Value {
			rights[*rule.KeyName] = *rule.Rights
			if key, err := base64.StdEncoding.DecodeString(*rule.PrimaryKey); err != nil || len(key) == 0 {
				t.Fatalf("the key of %s is none", *rule.KeyName)
			}
		}
	}
	equal(t, 5, len(rights))
	equal(t, armiothub.AccessRightsServiceConnect, rights["service"])
	one := must(hubs.GetKeysForKeyName(ctx, group, name, "registryRead", nil))(t)
	equal(t, armiothub.AccessRightsRegistryRead, *one.Rights)

	body := armiothub.EventHubConsumerGroupBodyDescription{Properties: &armiothub.EventHubConsumerGroupName{Name: to.Ptr("readers")}}
	made := must(hubs.CreateEventHubConsumerGroup(ctx, group, name, "events", "readers", body, nil))(t)
	equal(t, "readers", *made.Name)
	groups := func() (names []string) {
		for pager := hubs.NewListEventHubConsumerGroupsPager(group, name, "events", nil); pager.More(); {
			for _, found := range must(pager.NextPage(ctx))(t).Value {
				names = append(names, *found.Name)
			}
		}
		slices.Sort(names)
		return names
	}
	if found := groups(); !slices.Equal(found, []string{"$Default", "readers"}) {
		t.Fatalf("consumer groups: %v", found)
	}
	must(hubs.DeleteEventHubConsumerGroup(ctx, group, name, "events", "readers", nil))(t)
	equal(t, 1, len(groups()))
	_, err := hubs.GetEventHubConsumerGroup(ctx, group, name, "events", "readers", nil)
	refused(t, err, 404, "")

	stats := must(hubs.GetStats(ctx, group, name, nil))(t)
	equal(t, 0, *stats.TotalDeviceCount)
	var metrics []string
	for pager := hubs.NewGetQuotaMetricsPager(group, name, nil); pager.More(); {
		for _, metric := range must(pager.NextPage(ctx))(t).Value {
			metrics = append(metrics, *metric.Name)
		}
	}
	if !slices.Contains(metrics, "TotalMessages") || !slices.Contains(metrics, "TotalDeviceCount") {
		t.Fatalf("metrics: %v", metrics)
	}
}

// certified is a certificate with its key, signed by another one or by itself.
type certified struct {
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
}

func certify(t *testing.T, commonName string, issuer *certified, isCA bool) *certified {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(time.Now().UnixNano()),
		Subject:               pkix.Name{CommonName: commonName},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		IsCA:                  isCA,
		BasicConstraintsValid: true,
	}
	made := &certified{key: key, certificate: template}
	if issuer == nil {
		issuer = made
	}
	bytes := must(x509.CreateCertificate(rand.Reader, template, issuer.certificate, &key.PublicKey, issuer.key))(t)
	made.certificate = must(x509.ParseCertificate(bytes))(t)
	return made
}

func (it *certified) text() *string {
	return to.Ptr(base64.StdEncoding.EncodeToString(it.certificate.Raw))
}

func TestACertificateIsUploadedVerifiedAndDeleted(t *testing.T) {
	ctx, name, group := within(t), unique("hub"), env(t, "AZURE_RESOURCE_GROUP")
	makeHub(t, ctx, name)
	certificates := clients(t).NewCertificatesClient()
	root := certify(t, "our root", nil, true)
	body := armiothub.CertificateDescription{Properties: &armiothub.CertificateProperties{Certificate: root.text()}}
	made := must(certificates.CreateOrUpdate(ctx, group, name, "root", body, nil))(t)
	equal(t, false, *made.Properties.IsVerified)
	equal(t, "CN=our root", *made.Properties.Subject)

	_, err := certificates.GenerateVerificationCode(ctx, group, name, "root", "AAAA", nil)
	refused(t, err, 412, "")
	coded := must(certificates.GenerateVerificationCode(ctx, group, name, "root", *made.Etag, nil))(t)
	wrong := armiothub.CertificateVerificationDescription{Certificate: certify(t, "something else", root, false).text()}
	_, err = certificates.Verify(ctx, group, name, "root", *coded.Etag, wrong, nil)
	refused(t, err, 400, "")
	proof := armiothub.CertificateVerificationDescription{Certificate: certify(t, *coded.Properties.VerificationCode, root, false).text()}
	verified := must(certificates.Verify(ctx, group, name, "root", *coded.Etag, proof, nil))(t)
	equal(t, true, *verified.Properties.IsVerified)
	listed := must(certificates.ListByIotHub(ctx, group, name, nil))(t)
	equal(t, 1, len(listed.Value))

	must(certificates.Delete(ctx, group, name, "root", *verified.Etag, nil))(t)
	_, err = certificates.Get(ctx, group, name, "root", nil)
	refused(t, err, 404, "")
}
