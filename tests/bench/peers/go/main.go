// The service of peers.proto on grpc-go.
//
//	peer_go --version | --port-file FILE
package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"runtime"
	"time"

	"google.golang.org/grpc"

	"sluice.example/peers/peersv1"
)

const maxStreams = 1100 // what the others allow, too

type service struct {
	peersv1.UnimplementedPeersServer
}

func (service) Echo(_ context.Context, request *peersv1.Payload) (*peersv1.Payload, error) {
	return &peersv1.Payload{Data: request.Data}, nil
}

func (service) Count(request *peersv1.CountRequest, stream grpc.ServerStreamingServer[peersv1.Payload]) error {
	payload := &peersv1.Payload{Data: bytes.Repeat([]byte("x"), int(request.Bytes))}
	var pause <-chan time.Time
	if request.PauseMs > 0 {
		ticker := time.NewTicker(time.Duration(request.PauseMs) * time.Millisecond)
		defer ticker.Stop()
		pause = ticker.C
	}
	for i := range request.Messages {
		if i > 0 && pause != nil {
			select {
			case <-pause:
			case <-stream.Context().Done():
				return stream.Context().Err()
			}
		}
		if err := stream.Send(payload); err != nil {
			return err
		}
	}
	if request.Hang {
		<-stream.Context().Done()
	}
	return nil
}

func main() {
	version := flag.Bool("version", false, "print the versions of grpc-go and Go")
	portFile := flag.String("port-file", "", "where to write the address")
	flag.Parse()
	if *version {
		fmt.Printf("%s, %s\n", grpc.Version, runtime.Version())
		return
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(*portFile, []byte(listener.Addr().String()+"\n"), 0o644); err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer(grpc.MaxConcurrentStreams(maxStreams))
	peersv1.RegisterPeersServer(server, service{})
	log.Fatal(server.Serve(listener))
}
