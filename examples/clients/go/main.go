// Runs an agent and prints what it says: run-agent AGENT INPUT [SECONDS]
// The server is SLUICE_ADDR or 127.0.0.1:50051; SLUICE_CA, a PEM file, turns TLS on. Exit status: 0 done, 1 error, 130 cancelled by Ctrl-C.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/health" // for healthCheckConfig
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	pb "run-agent/sluice/v1"
)

// run prints the text of a run; hasRun tells, beside an error, whether an event of it came.
func run(ctx context.Context, agent, input string) (hasRun bool, err error) {
	address := os.Getenv("SLUICE_ADDR")
	if address == "" {
		address = "127.0.0.1:50051"
	}
	config, err := os.ReadFile("../../service-config.json")
	if err != nil {
		return false, err
	}
	transport := insecure.NewCredentials()
	if authorities := os.Getenv("SLUICE_CA"); authorities != "" {
		if transport, err = credentials.NewClientTLSFromFile(authorities, ""); err != nil {
			return false, err
		}
	}
	conn, err := grpc.NewClient(address,
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultServiceConfig(string(config)),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second}), // the server allows a PING every 10 s
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(5<<20)))                  // an event has at most 4 MiB
	if err != nil {
		return false, err
	}
	defer conn.Close()
	stream, err := pb.NewAgentRuntimeClient(conn).ExecuteStreaming(ctx, &pb.ExecuteRequest{Agent: agent, Input: input})
	if err != nil {
		return false, err
	}
	for {
		message, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return hasRun, nil
		}
		if err != nil {
			return hasRun, err
		}
		hasRun = true
		switch event := message.Event.(type) {
		case *pb.StreamEvent_TextDelta:
			fmt.Print(event.TextDelta.Delta)
		case *pb.StreamEvent_ToolCallStart:
			fmt.Fprintf(os.Stderr, "[%s]\n", event.ToolCallStart.ToolName)
		case *pb.StreamEvent_Done:
			fmt.Fprintf(os.Stderr, "\n%d tokens\n", event.Done.OutputTokens)
		}
	}
}

// reasonOf gives the ErrorInfo of an error: the reason, and whether a run had started. The client's own errors have none.
func reasonOf(err error, hasRun bool) (string, bool) {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.Reason, info.Metadata["run_started"] == "true"
		}
	}
	return "-", hasRun
}

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: run-agent AGENT INPUT [SECONDS]")
		os.Exit(2)
	}
	seconds := 60.0
	if len(os.Args) > 3 {
		seconds, _ = strconv.ParseFloat(os.Args[3], 64)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt) // Ctrl-C resets the stream, and so cancels the run
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, time.Duration(seconds*float64(time.Second)))
	defer cancel()
	if hasRun, err := run(ctx, os.Args[1], os.Args[2]); err != nil {
		reason, hasRun := reasonOf(err, hasRun)
		state := "no run was started"
		if hasRun {
			state = "the run had started"
		}
		fmt.Fprintf(os.Stderr, "\n%s %s (%s): %s\n", status.Code(err), reason, state, status.Convert(err).Message())
		if status.Code(err) == codes.Canceled {
			os.Exit(130)
		}
		os.Exit(1)
	}
}
