package conformance

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/appendblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"
)

func storage(t *testing.T) *azblob.Client {
	return must(azblob.NewClientFromConnectionString(env(t, "AZURE_STORAGE_CONNECTION_STRING"), nil))(t)
}

// makeContainer makes one that is gone after the test.
func makeContainer(t *testing.T, ctx context.Context) (*azblob.Client, *container.Client, string) {
	client, name := storage(t), unique("container")
	must(client.CreateContainer(ctx, name, nil))(t)
	t.Cleanup(func() {
		if _, err := client.DeleteContainer(context.Background(), name, nil); err != nil {
			t.Error(err)
		}
	})
	return client, client.ServiceClient().NewContainerClient(name), name
}

func isCode(t *testing.T, err error, code bloberror.Code) {
	t.Helper()
	if !bloberror.HasCode(err, code) {
		t.Fatalf("%v is not %s", err, code)
	}
}

func TestBlobsGoUpInBlocksAndComeDownInRanges(t *testing.T) {
	ctx := within(t)
	client, in, name := makeContainer(t, ctx)
	data := make([]byte, 5<<20+77)
	must(rand.Read(data))(t)
	upload := &azblob.UploadBufferOptions{BlockSize: 1 << 20, Concurrency: 4, Metadata: map[string]*string{"color": to.Ptr("red")}}
	must(client.UploadBuffer(ctx, name, "large", data, upload))(t)
	down := make([]byte, len(data))
	read := must(client.DownloadBuffer(ctx, name, "large", down, &azblob.DownloadBufferOptions{BlockSize: 1 << 20, Concurrency: 4}))(t)
	equal(t, int64(len(data)), read)
	equal(t, true, bytes.Equal(data, down))

	must(client.UploadStream(ctx, name, "dev 1/a+b é.txt", strings.NewReader("hello world"), nil))(t)
	part := must(client.DownloadStream(ctx, name, "dev 1/a+b é.txt", &azblob.DownloadStreamOptions{Range: blob.HTTPRange{Offset: 6, Count: 3}}))(t)
	text := must(io.ReadAll(part.Body))(t)
	ok(t, part.Body.Close())
	equal(t, "wor", string(text))
	equal(t, "bytes 6-8/11", *part.ContentRange)

	var names []string
	for pager := client.NewListBlobsFlatPager(name, &azblob.ListBlobsFlatOptions{MaxResults: to.Ptr[int32](1)}); pager.More(); {
		for _, item := range must(pager.NextPage(ctx))(t).Segment.BlobItems {
			names = append(names, *item.Name)
		}
	}
	if !slices.Equal(names, []string{"dev 1/a+b é.txt", "large"}) {
		t.Fatalf("listed: %v", names)
	}
	properties := must(in.NewBlobClient("large").GetProperties(ctx, nil))(t)
	equal(t, int64(len(data)), *properties.ContentLength)
	stale := &blob.AccessConditions{ModifiedAccessConditions: &blob.ModifiedAccessConditions{IfNoneMatch: properties.ETag}}
	unchanged := must(client.DownloadStream(ctx, name, "large", &azblob.DownloadStreamOptions{AccessConditions: stale}))(t)
	equal(t, string(bloberror.ConditionNotMet), *unchanged.ErrorCode)
	must(client.DeleteBlob(ctx, name, "large", nil))(t)
	_, err := client.DeleteBlob(ctx, name, "large", nil)
	isCode(t, err, bloberror.BlobNotFound)
}

func TestAnAppendBlobGrowsAtItsEnd(t *testing.T) {
	ctx := within(t)
	client, in, name := makeContainer(t, ctx)
	log := in.NewAppendBlobClient("log")
	must(log.Create(ctx, nil))(t)
	must(log.AppendBlock(ctx, streaming.NopCloser(strings.NewReader("one\n")), nil))(t)
	at := func(position int64) *appendblob.AppendBlockOptions {
		return &appendblob.AppendBlockOptions{AppendPositionAccessConditions: &appendblob.AppendPositionAccessConditions{AppendPosition: to.Ptr(position)}}
	}
	must(log.AppendBlock(ctx, streaming.NopCloser(strings.NewReader("two\n")), at(4)))(t)
	_, err := log.AppendBlock(ctx, streaming.NopCloser(strings.NewReader("x")), at(4))
	isCode(t, err, bloberror.AppendPositionConditionNotMet)
	down := must(client.DownloadStream(ctx, name, "log", nil))(t)
	text := must(io.ReadAll(down.Body))(t)
	equal(t, "one\ntwo\n", string(text))
}

func TestATokenLetsDoWhatItSays(t *testing.T) {
	ctx := within(t)
	client, in, name := makeContainer(t, ctx)
	must(client.UploadStream(ctx, name, "secret", strings.NewReader("secret"), nil))(t)
	until := time.Now().Add(time.Hour)
	url := must(in.NewBlobClient("secret").GetSASURL(sas.BlobPermissions{Read: true}, until, nil))(t)
	reader := must(blob.NewClientWithNoCredential(url, nil))(t)
	down := must(reader.DownloadStream(ctx, nil))(t)
	equal(t, "secret", string(must(io.ReadAll(down.Body))(t)))
	_, err := reader.Delete(ctx, nil)
	isCode(t, err, bloberror.AuthorizationPermissionMismatch)

	lister := must(container.NewClientWithNoCredential(must(in.GetSASURL(sas.ContainerPermissions{List: true}, until, nil))(t), nil))(t)
	page := must(lister.NewListBlobsFlatPager(nil).NextPage(ctx))(t)
	equal(t, 1, len(page.Segment.BlobItems))

	permissions := sas.AccountPermissions{Read: true, Write: true, Create: true, Delete: true, List: true}
	types := sas.AccountResourceTypes{Service: true, Container: true, Object: true}
	account := must(client.ServiceClient().GetSASURL(types, permissions, until, nil))(t)
	everything := must(azblob.NewClientWithNoCredential(account, nil))(t)
	other := unique("container")
	must(everything.CreateContainer(ctx, other, nil))(t)
	must(everything.DeleteContainer(ctx, other, nil))(t)
}
