// AWS's SDK for Go v2, with as many goroutines as calls in flight.
package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
)

func main() {
	if len(os.Args) < 4 {
		fmt.Println(runtime.Version()+", aws-sdk-go-v2", aws.SDKVersion)
		return
	}
	concurrency, _ := strconv.Atoi(os.Args[2])
	settings, err := config.LoadDefaultConfig(context.Background(), config.WithRegion("us-east-1"),
		config.WithHTTPClient(awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
			t.MaxIdleConns, t.MaxIdleConnsPerHost, t.MaxConnsPerHost = concurrency, concurrency, concurrency
		})), config.WithRetryMaxAttempts(1))
	if err != nil {
		panic(err)
	}
	client := lambda.NewFromConfig(settings,
		lambda.WithEndpointResolver(lambda.EndpointResolverFromURL(os.Args[3])))
	file, err := os.Open(os.Args[1])
	if err != nil {
		panic(err)
	}
	lines := make(chan []byte, concurrency)
	var done atomic.Int64
	var workers sync.WaitGroup
	began := time.Now()
	for i := 0; i < concurrency; i++ {
		workers.Add(1)
		go func() {
			defer workers.Done()
			for line := range lines {
				reply, err := client.Invoke(context.Background(),
					&lambda.InvokeInput{FunctionName: aws.String("lab-100000"), Payload: line})
				if err == nil && reply.StatusCode == 200 {
					done.Add(1)
				}
			}
		}()
	}
	scanner := bufio.NewScanner(file)
	for scanner.Scan() {
		lines <- append([]byte(nil), scanner.Bytes()...)
	}
	close(lines)
	workers.Wait()
	fmt.Println(done.Load(), time.Since(began).Seconds())
}
