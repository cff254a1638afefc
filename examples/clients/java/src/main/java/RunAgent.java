import com.google.gson.Gson;
import com.google.protobuf.Any;
import com.google.rpc.ErrorInfo;
import io.grpc.ChannelCredentials;
import io.grpc.Context;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.TlsChannelCredentials;
import io.grpc.protobuf.StatusProto;
import io.sluice.v1.AgentRuntimeGrpc;
import io.sluice.v1.ExecuteRequest;
import io.sluice.v1.StreamEvent;
import java.io.File;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Iterator;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.TimeUnit;

/**
 * Runs an agent and prints what it says: RunAgent AGENT INPUT [SECONDS]. The server is SLUICE_ADDR or 127.0.0.1:50051;
 * SLUICE_CA, a PEM file, turns TLS on. Exit status: 0 done, 1 error, 130 cancelled by Ctrl-C.
 */
public final class RunAgent {
  private static boolean hasRun;

  private static ManagedChannel channel() throws Exception {
    Path config = Path.of("examples", "service-config.json");
    Map<?, ?> map = new Gson().fromJson(Files.readString(config), Map.class);
    @SuppressWarnings("unchecked")
    Map<String, ?> serviceConfig = (Map<String, ?>) map;
    String address = Optional.ofNullable(System.getenv("SLUICE_ADDR")).orElse("127.0.0.1:50051");
    String authorities = System.getenv("SLUICE_CA");
    ChannelCredentials credentials =
        authorities == null
            ? InsecureChannelCredentials.create()
            : TlsChannelCredentials.newBuilder().trustManager(new File(authorities)).build();
    return Grpc.newChannelBuilder(address, credentials)
        .defaultServiceConfig(serviceConfig)
        .keepAliveTime(30, TimeUnit.SECONDS) // the server allows a PING every 10 s
        .maxInboundMessageSize(5 << 20) // an event has at most 4 MiB
        .build();
  }

  private static void print(Iterator<StreamEvent> events) {
    while (events.hasNext()) {
      StreamEvent event = events.next();
      hasRun = true;
      switch (event.getEventCase()) {
        case TEXT_DELTA -> {
          System.out.print(event.getTextDelta().getDelta());
          System.out.flush();
        }
        case TOOL_CALL_START -> System.err.printf("[%s]%n", event.getToolCallStart().getToolName());
        case DONE -> System.err.printf("%n%d tokens%n", event.getDone().getOutputTokens());
        default -> {}
      }
    }
  }

  /** ErrorInfo of an error: the reason, and whether a run had started. The client's own errors have none. */
  private static String explain(StatusRuntimeException error) throws Exception {
    String reason = "-";
    com.google.rpc.Status status = StatusProto.fromThrowable(error);
    if (status != null) {
      for (Any detail : status.getDetailsList()) {
        if (detail.is(ErrorInfo.class)) {
          ErrorInfo info = detail.unpack(ErrorInfo.class);
          reason = info.getReason();
          hasRun = info.getMetadataOrDefault("run_started", "").equals("true");
        }
      }
    }
    String state = hasRun ? "the run had started" : "no run was started";
    return String.format("%n%s %s (%s): %s", error.getStatus().getCode(), reason, state, error.getStatus().getDescription());
  }

  public static void main(String[] args) throws Exception {
    double seconds = args.length > 2 ? Double.parseDouble(args[2]) : 60;
    ManagedChannel channel = channel();
    Context.CancellableContext context = Context.current().withCancellation();
    Thread main = Thread.currentThread();
    Thread onSignal =
        new Thread(
            () -> {
              context.cancel(null); // resets the stream, and so cancels the run
              try {
                main.join(2000);
              } catch (InterruptedException e) {
                Thread.currentThread().interrupt();
              }
            });
    Runtime.getRuntime().addShutdownHook(onSignal);
    int exit = 0;
    try {
      ExecuteRequest request = ExecuteRequest.newBuilder().setAgent(args[0]).setInput(args[1]).build();
      AgentRuntimeGrpc.AgentRuntimeBlockingStub stub =
          AgentRuntimeGrpc.newBlockingStub(channel).withDeadlineAfter((long) (seconds * 1000), TimeUnit.MILLISECONDS);
      context.call(
          () -> {
            print(stub.executeStreaming(request));
            return null;
          });
    } catch (StatusRuntimeException error) {
      System.err.println(explain(error));
      exit = error.getStatus().getCode() == Status.Code.CANCELLED ? 130 : 1;
    }
    channel.shutdownNow().awaitTermination(2, TimeUnit.SECONDS);
    if (exit != 130) { // on Ctrl-C the machine is going down already, with that status
      System.exit(exit);
    }
  }
}
