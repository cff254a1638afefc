# frozen_string_literal: true

# Runs an agent and prints what it says: run_agent.rb AGENT INPUT [SECONDS]
# The server is SLUICE_ADDR or 127.0.0.1:50051; SLUICE_CA, a PEM file, turns TLS on.
# Exit status: 0 done, 1 error, 130 cancelled by Ctrl-C.
$LOAD_PATH.unshift(__dir__)
require 'error_details_pb'
require 'grpc'
require 'sluice/v1/runtime_services_pb'

OPTIONS = {
  'grpc.service_config' => File.read(File.join(__dir__, '../../service-config.json')),
  'grpc.keepalive_time_ms' => 30_000, # the server allows a PING every 10 s
  'grpc.max_receive_message_length' => 5 << 20 # an event has at most 4 MiB
}.freeze

def stub
  authorities = ENV.fetch('SLUICE_CA', nil)
  credentials = authorities ? GRPC::Core::ChannelCredentials.new(File.read(authorities)) : :this_channel_is_insecure
  address = ENV.fetch('SLUICE_ADDR', '127.0.0.1:50051')
  Sluice::V1::AgentRuntime::Stub.new(address, credentials, channel_args: OPTIONS)
end

# ErrorInfo of an error: the reason, and whether a run had started. The client's own errors have none.
def reason_of(error, has_run)
  bytes = error.metadata['grpc-status-details-bin']
  status = bytes ? Details::Status.decode(bytes) : Details::Status.new
  detail = status.details.find { |any| any.type_url.end_with?('/google.rpc.ErrorInfo') }
  return ['-', has_run] unless detail

  info = Details::ErrorInfo.decode(detail.value)
  [info.reason, info.metadata['run_started'] == 'true']
end

def show(event)
  case event.event
  when :text_delta then $stdout << event.text_delta.delta
  when :tool_call_start then warn "[#{event.tool_call_start.tool_name}]"
  when :done then warn "\n#{event.done.output_tokens} tokens"
  end
end

# The library's wait lets no signal through before something comes: another thread reads, and this one waits for it.
def join(reader, call)
  reader.join # raises what the thread has raised
rescue Interrupt
  call.cancel # resets the stream, and so cancels the run; the reader ends with Cancelled
  retry
end

$stdout.sync = true
agent, input, seconds = ARGV
abort 'usage: run_agent.rb AGENT INPUT [SECONDS]' unless input
request = Sluice::V1::ExecuteRequest.new(agent: agent, input: input)
has_run = false
begin
  call = stub.execute_streaming(request, deadline: Time.now + (seconds || 60).to_f, return_op: true)
  reader = Thread.new do
    Thread.current.report_on_exception = false
    call.execute.each do |event|
      has_run = true
      show(event)
    end
  end
  join(reader, call)
rescue GRPC::BadStatus => e
  reason, has_run = reason_of(e, has_run)
  state = has_run ? 'the run had started' : 'no run was started'
  warn "\n#{e.class.name.split('::').last} #{reason} (#{state}): #{e.details}"
  exit(e.is_a?(GRPC::Cancelled) ? 130 : 1)
end
