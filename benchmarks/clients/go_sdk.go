// AWS's SDK for Go v2, with as many goroutines as calls in flight.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
)

func main() {
	concurrency, _ := strconv.Atoi(os.Args[2])
	roots := x509.NewCertPool()
	if pem, err := os.ReadFile(os.Getenv("AWS_CA_BUNDLE")); err == nil {
		roots.AppendCertsFromPEM(pem)
	}
	transport := &http.Transport{
		MaxIdleConns: concurrency, MaxIdleConnsPerHost: concurrency, MaxConnsPerHost: concurrency,
		TLSClientConfig: &tls.Config{RootCAs: roots},
	}
	settings, err := config.LoadDefaultConfig(context.Background(), config.WithRegion("us-east-1"),
		config.WithHTTPClient(&http.Client{Transport: transport}), config.WithRetryMaxAttempts(1))
	if err != nil {
		panic(err)
	}
	client := lambda.NewFromConfig(settings, func(o *lambda.Options) { o.BaseEndpoint = aws.String(os.Args[3]) })
	file, err := os.Open(os.Args[1])
	if err != nil {
		panic(err)
	}
	lines := make(chan []byte, concurrency)
	var done atomic.Int64
	var workers sync.WaitGroup
	began := time.Now()
	for range concurrency {
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
